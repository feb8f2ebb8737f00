// The MNIST family: one file of grey pictures, one of labels, both held in memory.
#include <algorithm>

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
  explicit IdxSet(const ImageSetParams& params) {
    const fs::path label_file = params.labels.empty() ? labels_of(params.source) : params.labels;
    // Labels first: a mistake in them is found before the large file is read.
    const std::vector<std::uint8_t> labels = read_idx_labels(label_file);
    images_ = read_idx_images(params.source);
    if (images_.count != static_cast<std::int64_t>(labels.size())) {
      fail(ExitCode::input, "{}: {} images, but {} has {} labels; they do not belong together", params.source.string(),
           images_.count, label_file.string(), labels.size());
    }
    if (labels.empty()) fail(ExitCode::input, "{}: holds no images", params.source.string());
    classes_ = *std::max_element(labels.begin(), labels.end()) + 1;
    std::vector<Entry> entries;
    for (std::size_t i = 0; i < labels.size(); ++i) {
      entries.push_back({fmt::format("#{}", i), labels[i], static_cast<std::int64_t>(i),
                         std::int64_t{images_.height} * images_.width});
    }
    take(std::move(entries), params);
    seal(fmt::format("idx {}x{} of {}", images_.width, images_.height, images_.count), params);
  }

  Image load(std::int64_t index) const override {
    const Entry& entry = entries_.at(static_cast<std::size_t>(index));
    const auto size = static_cast<std::size_t>(entry.size);
    const std::uint8_t* grey = images_.pixels.data() + static_cast<std::size_t>(entry.offset) * size;
    Image image{images_.width, images_.height, std::vector<std::uint8_t>(size * 3)};
    for (std::size_t i = 0; i < size; ++i) image.rgb[3 * i] = image.rgb[3 * i + 1] = image.rgb[3 * i + 2] = grey[i];
    return image;
  }

 private:
  IdxImages images_;
};

}  // namespace

std::unique_ptr<ImageSet> open_idx_set(const ImageSetParams& params) {
  return std::make_unique<IdxSet>(params);
}

}  // namespace moextract::data
