// The MNIST family: one file of grey pictures, held in memory from the first load on, and one of labels.
#include <algorithm>
#include <mutex>

#include "data/idx_file.h"
#include "data/image_set_kinds.h"

namespace moextract::data {
namespace {

namespace fs = std::filesystem;

/// train-images-idx3-ubyte.gz -> train-labels-idx1-ubyte.gz.
fs::path labels_of(const fs::path& images) {
  std::string name = images.filename().string();
  for (const auto& [from, to] : {std::pair{"idx3", "idx1"}, std::pair{"images", "labels"}}) {
    if (const auto at = name.find(from); at != name.npos) name.replace(at, std::string_view(from).size(), to);
  }
  if (name == images.filename()) {
    fail(ExitCode::input, "{}: no label file given, and none can be told from this name; set labels", images.string());
  }
  return images.parent_path() / name;
}

class IdxSet final : public SelectedImageSet {
 public:
  explicit IdxSet(const ImageSetParams& params) : source_(params.source), shape_(read_idx_shape(params.source)) {
    const fs::path label_file = params.labels.empty() ? labels_of(params.source) : params.labels;
    const std::vector<std::uint8_t> labels = read_idx_labels(label_file);
    if (shape_.count != static_cast<std::int64_t>(labels.size())) {
      fail(ExitCode::input, "{}: {} images, but {} has {} labels; they do not belong together", source_.string(),
           shape_.count, label_file.string(), labels.size());
    }
    if (labels.empty()) fail(ExitCode::input, "{}: holds no images", source_.string());
    classes_ = *std::max_element(labels.begin(), labels.end()) + 1;
    std::vector<Entry> entries;
    for (std::size_t i = 0; i < labels.size(); ++i) {
      entries.push_back(
          {fmt::format("#{}", i), labels[i], static_cast<std::int64_t>(i), std::int64_t{shape_.height} * shape_.width});
    }
    take(std::move(entries), params);
    seal(fmt::format("idx {}x{} of {}", shape_.width, shape_.height, shape_.count), params);
  }

  std::vector<std::byte> read(std::int64_t index) const override {
    const Entry& entry = entries_.at(static_cast<std::size_t>(index));
    const auto size = static_cast<std::size_t>(entry.size);
    const auto grey = std::as_bytes(std::span(pixels())).subspan(static_cast<std::size_t>(entry.offset) * size, size);
    return {grey.begin(), grey.end()};
  }

  Image decode(std::int64_t, std::span<const std::byte> bytes) const override {
    Image image{shape_.width, shape_.height, std::vector<std::uint8_t>(bytes.size() * 3)};
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      image.rgb[3 * i] = image.rgb[3 * i + 1] = image.rgb[3 * i + 2] = std::to_integer<std::uint8_t>(bytes[i]);
    }
    return image;
  }

 private:
  /// Plans are made of many sets whose pictures nobody asks for.
  const std::vector<std::uint8_t>& pixels() const {
    std::call_once(read_, [this] {
      IdxImages images = read_idx_images(source_);
      if (images.shape != shape_) fail(ExitCode::input, "{}: has changed since it was opened", source_.string());
      pixels_ = std::move(images.pixels);
    });
    return pixels_;
  }

  fs::path source_;
  IdxShape shape_;
  mutable std::once_flag read_;
  mutable std::vector<std::uint8_t> pixels_;
};

}  // namespace

std::unique_ptr<ImageSet> open_idx_set(const ImageSetParams& params) {
  return std::make_unique<IdxSet>(params);
}

}  // namespace moextract::data
