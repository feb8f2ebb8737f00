// Writing a shard: buffered rows, a temporary name, no timestamps.
#include <unistd.h>

#include <array>
#include <cstring>
#include <optional>

#include "core/error.h"
#include "core/file.h"
#include "core/float16.h"
#include "store/activation_shard.h"
#include "store/row_dataset.h"
#include "store/shard_layout.h"

namespace moextract::store {
namespace fs = std::filesystem;
namespace {

[[noreturn]] void fail_storage(const fs::path& path, const char* reason) {
  fail(ExitCode::storage,
       "{}: the shard cannot be written ({}). Free space or mend the permissions, then run the same "
       "command again.",
       path.string(), reason);
}

/// A name that is_temporary_name knows; host and process keep two writers of one shard apart.
fs::path unfinished_name(const fs::path& path) {
  char host[64] = "host";
  gethostname(host, sizeof(host) - 1);
  return path.string() + ".part.shard." + host + "." + std::to_string(getpid());
}

void write_attribute(hid_t file, const char* name, hid_t type, std::optional<std::size_t> count, const void* data) {
  const hsize_t extent = count.value_or(1);
  const Hdf5Handle space(count ? H5Screate_simple(1, &extent, nullptr) : H5Screate(H5S_SCALAR), H5Sclose,
                         "create a dataspace");
  Hdf5Handle attribute(H5Acreate2(file, name, type, space.get(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose,
                       "create an attribute");
  checked(H5Awrite(attribute.get(), type, data), "write an attribute");
  attribute.close("close an attribute");
}

void write_text(hid_t file, const char* name, const std::string& text) {
  const Hdf5Handle type = text_type(text.size());
  const std::string padded = text.empty() ? std::string(1, '\0') : text;
  write_attribute(file, name, type.get(), std::nullopt, padded.data());
}

void write_integer(hid_t file, const char* name, std::int64_t value) {
  write_attribute(file, name, H5T_STD_I64LE, std::nullopt, &value);
}

void write_attributes(hid_t file, const ShardInfo& info) {
  write_text(file, "format", kShardFormat);
  write_integer(file, "format_version", kShardVersion);
  write_text(file, "model_hash", info.model_hash);
  write_text(file, "data_fingerprint", info.data_fingerprint);
  write_attribute(file, "seed", H5T_STD_U64LE, std::nullopt, &info.seed);
  write_integer(file, "first_image", info.first_image);
  write_integer(file, "image_count", info.image_count);
  std::vector<std::int64_t> numbers, x_widths, h_widths;
  for (const ShardLayer& layer : info.layers) {
    numbers.push_back(layer.layer);
    x_widths.push_back(layer.x_width);
    h_widths.push_back(layer.h_width);
  }
  write_attribute(file, "layers", H5T_STD_I64LE, numbers.size(), numbers.data());
  write_attribute(file, "x_width", H5T_STD_I64LE, x_widths.size(), x_widths.data());
  write_attribute(file, "h_width", H5T_STD_I64LE, h_widths.size(), h_widths.data());
}

void make_group(hid_t file, const std::string& name) {
  const Hdf5Handle creation(H5Pcreate(H5P_GROUP_CREATE), H5Pclose, "create a property list");
  checked(H5Pset_obj_track_times(creation.get(), false), "switch timestamps off");
  Hdf5Handle group(H5Gcreate2(file, name.c_str(), H5P_DEFAULT, creation.get(), H5P_DEFAULT), H5Gclose,
                   "create a group");
  group.close("close a group");
}

Hdf5Handle create_file(const fs::path& path) {
  const Hdf5Handle creation(H5Pcreate(H5P_FILE_CREATE), H5Pclose, "create a property list");
  checked(H5Pset_obj_track_times(creation.get(), false), "switch timestamps off");
  checked(H5Pset_attr_phase_change(creation.get(), 32, 0), "keep attributes in the header");
  const Hdf5Handle access = shard_file_access();
  return Hdf5Handle(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation.get(), access.get()), H5Fclose, "create the file");
}

void check_info(const ShardInfo& info) {
  MOEX_ASSERT(!info.layers.empty(), "a shard records at least one layer");
  MOEX_ASSERT(info.first_image >= 0 && info.image_count >= 0, "a range of images");
  for (std::size_t i = 0; i < info.layers.size(); ++i) {
    const ShardLayer& layer = info.layers[i];
    MOEX_ASSERT(layer.layer >= 0 && layer.x_width >= 0 && layer.h_width >= 0,
                "layer numbers and widths are not negative");
    MOEX_ASSERT(layer.x_width + layer.h_width > 0, "a layer records at least one tap");
    for (std::size_t j = 0; j < i; ++j) MOEX_ASSERT(info.layers[j].layer != layer.layer, "a layer is listed once");
  }
}

}  // namespace

struct ShardWriter::State {
  /// One for every entry of `rows` in append(); none where the tap is not recorded.
  struct Recorded {
    std::int64_t layer;
    Tap tap;
    std::int64_t width;
    std::optional<RowDataset> dataset;
  };

  State(const fs::path& final_path, const ShardInfo& shard_info, Compression how)
      : path(final_path), unfinished(unfinished_name(final_path)), info(shard_info), compression(how) {}
  // An unfinished shard leaves nothing. HDF5 flushes what it holds before it lets go of the file; the result is
  // unlinked.
  ~State() {
    release();
    if (!finished) {
      std::error_code ignored;
      fs::remove(unfinished, ignored);
    }
  }

  void release() noexcept {
    recorded.clear();
    row_image.reset();
    row_token.reset();
    half.close_quietly();
    file.close_quietly();
  }

  void open();
  void check_append(std::span<const ShardImage> added, std::span<const std::vector<std::uint16_t>> rows) const;
  void write_images();

  fs::path path, unfinished;
  ShardInfo info;
  Compression compression;
  bool finished = false, broken = false;
  Hdf5Handle file, half;
  std::vector<Recorded> recorded;
  std::optional<RowDataset> row_image, row_token;
  // Held until the end: the length of the longest id fixes the type. A shard has thousands of images, not millions.
  std::vector<std::string> ids;
  std::vector<std::int64_t> indices;
  std::vector<std::int32_t> labels;
};

void ShardWriter::State::open() {
  file = create_file(unfinished);
  half = float16_type();
  write_attributes(file.get(), info);
  make_group(file.get(), "layers");
  make_group(file.get(), "rows");
  make_group(file.get(), "images");
  for (const ShardLayer& layer : info.layers) {
    make_group(file.get(), fmt::format("layers/{}", layer.layer));
    for (const Tap tap : {Tap::x, Tap::h}) {
      const std::int64_t width = tap == Tap::x ? layer.x_width : layer.h_width;
      recorded.push_back({layer.layer, tap, width, std::nullopt});
      if (width > 0) {
        recorded.back().dataset.emplace(file.get(), dataset_name(layer.layer, tap), half.get(), width, compression);
      }
    }
  }
  row_image.emplace(file.get(), "rows/image", H5T_STD_I64LE, 0, compression);
  row_token.emplace(file.get(), "rows/token", H5T_STD_I32LE, 0, compression);
}

// Before anything is taken over, so that a rejected append leaves the shard as it was.
void ShardWriter::State::check_append(std::span<const ShardImage> added,
                                      std::span<const std::vector<std::uint16_t>> rows) const {
  MOEX_ASSERT(rows.size() == recorded.size(), "one entry for each layer and tap");
  std::size_t count = 0;
  std::int64_t before = indices.empty() ? info.first_image - 1 : indices.back();
  for (const ShardImage& image : added) {
    MOEX_ASSERT(image.index > before && image.index < info.first_image + info.image_count,
                "images come in ascending order and out of the shard's range");
    before = image.index;
    if (image.id.find('\0') != std::string::npos) {
      fail(ExitCode::input, "image {} of the set has a NUL byte in its name: rename it", image.index);
    }
    for (std::size_t t = 0; t < image.tokens.size(); ++t) {
      MOEX_ASSERT(image.tokens[t] > (t == 0 ? -1 : image.tokens[t - 1]), "token positions ascend");
    }
    count += image.tokens.size();
  }
  for (std::size_t i = 0; i < rows.size(); ++i) {
    MOEX_ASSERT(rows[i].size() == count * static_cast<std::size_t>(recorded[i].width), "rows fit tokens and width");
    const std::int64_t where = first_non_finite(rows[i]);
    if (where < 0) continue;
    std::int64_t row = where / recorded[i].width;
    for (const ShardImage& image : added) {
      const auto tokens = static_cast<std::int64_t>(image.tokens.size());
      if (row < tokens) {
        fail(
            ExitCode::numerics,
            "layer {}, {}: infinity or NaN as float16 at token {} of image {} ({}), neuron {}. The model's activations "
            "leave the range of float16 (65504) there or its weights are broken: check the model file and the "
            "preprocessing.",
            recorded[i].layer, tap_name(recorded[i].tap), image.tokens[static_cast<std::size_t>(row)], image.index,
            image.id, where % recorded[i].width);
      }
      row -= tokens;
    }
  }
}

void ShardWriter::State::write_images() {
  std::size_t longest = 1;
  for (const std::string& id : ids) longest = std::max(longest, id.size());
  const Hdf5Handle text = text_type(longest);
  RowDataset id_rows(file.get(), "images/id", text.get(), 0, compression);
  RowDataset index_rows(file.get(), "images/index", H5T_STD_I64LE, 0, compression);
  RowDataset label_rows(file.get(), "images/label", H5T_STD_I32LE, 0, compression);
  std::string padded;
  for (const std::string& id : ids) {
    padded.assign(id).resize(longest, '\0');
    id_rows.append(std::as_bytes(std::span(padded)));
  }
  index_rows.append(std::as_bytes(std::span(indices)));
  label_rows.append(std::as_bytes(std::span(labels)));
  id_rows.finish();
  index_rows.finish();
  label_rows.finish();
}

ShardWriter::ShardWriter(const fs::path& path, const ShardInfo& info, Compression compression) {
  prepare_hdf5();
  check_info(info);
  state_ = std::make_unique<State>(path, info, compression);
  try {
    state_->open();
  } catch (const Hdf5Error& error) {
    fail_storage(path, error.what());
  }
}

ShardWriter::~ShardWriter() = default;

void ShardWriter::append(std::span<const ShardImage> images, std::span<const std::vector<std::uint16_t>> rows) {
  prepare_hdf5();
  State& state = *state_;
  MOEX_ASSERT(!state.finished && !state.broken, "nothing is appended to a finished or failed shard");
  state.check_append(images, rows);
  try {
    // Image by image, so that the order of chunks in the file does not depend on how many images one call brings.
    std::size_t first = 0;
    for (const ShardImage& image : images) {
      const std::size_t count = image.tokens.size();
      for (std::size_t i = 0; i < rows.size(); ++i) {
        if (!state.recorded[i].dataset) continue;
        const auto width = static_cast<std::size_t>(state.recorded[i].width);
        state.recorded[i].dataset->append(std::as_bytes(std::span(rows[i]).subspan(first * width, count * width)));
      }
      const std::vector<std::int64_t> index(count, image.index);
      state.row_image->append(std::as_bytes(std::span(index)));
      state.row_token->append(std::as_bytes(std::span(image.tokens)));
      first += count;
      state.ids.push_back(image.id);
      state.indices.push_back(image.index);
      state.labels.push_back(image.label);
    }
  } catch (const Hdf5Error& error) {
    state.broken = true;
    fail_storage(state.path, error.what());
  }
}

void ShardWriter::finish() {
  prepare_hdf5();
  State& state = *state_;
  MOEX_ASSERT(!state.finished && !state.broken, "a shard is finished once");
  state.broken = true;
  try {
    for (State::Recorded& recorded : state.recorded) {
      if (recorded.dataset) recorded.dataset->finish();
    }
    state.row_image->finish();
    state.row_token->finish();
    state.write_images();
    state.half.close("close a type");
    state.file.close("close the file");
  } catch (const Hdf5Error& error) {
    fail_storage(state.path, error.what());
  }
  // Both names are temporary: this hands the complete file to the one place that knows how to fsync and rename.
  write_file_atomically(state.path, [&](const fs::path& temporary) {
    std::error_code error;
    fs::rename(state.unfinished, temporary, error);
    if (error) fail_storage(state.path, error.message().c_str());
  });
  state.finished = true;
}

}  // namespace moextract::store
