// Reading a shard. Nothing in the file is believed before it is checked, and sizes it states are bounded by its own
// size.
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "core/error.h"
#include "core/file.h"
#include "core/float16.h"
#include "store/activation_shard.h"
#include "store/shard_layout.h"

namespace moextract::store {
namespace fs = std::filesystem;
namespace {

/// What is wrong with a file, without its name; becomes a UserError at the public entries.
class BadShard : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

template <class... Args>
[[noreturn]] void bad(fmt::format_string<Args...> format, Args&&... args) {
  throw BadShard(fmt::format(format, std::forward<Args>(args)...));
}

[[noreturn]] void fail_input(const fs::path& path, const char* what) {
  fail(ExitCode::input, "{}: {}. Remove the file and run `moextract collect` again: it makes the missing shard anew.",
       path.string(), what);
}

/// Runs `body`; whatever is wrong with the file leaves as one UserError.
template <class Body>
auto guarded(const fs::path& path, Body&& body) {
  try {
    return body();
  } catch (const BadShard& error) {
    fail_input(path, error.what());
  } catch (const Hdf5Error& error) {
    fail_input(path, (std::string("the shard is truncated or damaged (") + error.what() + ")").c_str());
  }
}

/// Size of the file, after a look at its first bytes. HDF5's parsers for older file versions trust what they read (no
/// checksums); such files are none of ours and never reach them.
std::int64_t check_file(const fs::path& path) {
  if (is_temporary_name(path)) bad("an unfinished shard that an interrupted run left behind");
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) bad("the shard cannot be opened ({})", std::strerror(errno));
  if (!S_ISREG(status.st_mode)) bad("not a file");
  std::ifstream file(path, std::ios::binary);
  if (!file) bad("the shard cannot be opened ({})", std::strerror(errno));
  if (status.st_size == 0) bad("the file is empty");
  std::array<char, 9> head{};
  constexpr std::array<char, 8> kSignature = {'\x89', 'H', 'D', 'F', '\r', '\n', '\x1a', '\n'};
  file.read(head.data(), head.size());
  if (!file || !std::equal(kSignature.begin(), kSignature.end(), head.begin()))
    bad("not an HDF5 file, or its start is damaged");
  if (static_cast<unsigned char>(head[8]) != kSuperblockVersion) bad("an HDF5 file that moextract did not write");
  return status.st_size;
}

Hdf5Handle open_attribute(hid_t file, const char* name) {
  if (checked(H5Aexists(file, name), "look for an attribute") == 0) {
    bad("not an activation shard: it has no attribute '{}'", name);
  }
  return Hdf5Handle(H5Aopen(file, name, H5P_DEFAULT), H5Aclose, "open an attribute");
}

/// Numbers of an attribute that must have type `type`; `rank` 0 or 1.
template <class Number>
std::vector<Number> read_numbers(hid_t file, const char* name, hid_t type, int rank, std::int64_t file_size) {
  const Hdf5Handle attribute = open_attribute(file, name);
  const Hdf5Handle stored(H5Aget_type(attribute.get()), H5Tclose, "get the type of an attribute");
  const Hdf5Handle space(H5Aget_space(attribute.get()), H5Sclose, "get the size of an attribute");
  const hssize_t count = checked(H5Sget_simple_extent_npoints(space.get()), "get the size of an attribute");
  if (checked(H5Tequal(stored.get(), type), "compare types") == 0 || H5Sget_simple_extent_ndims(space.get()) != rank ||
      count < 1 || count > file_size) {
    bad("its attribute '{}' has the wrong type or shape", name);
  }
  std::vector<Number> values(static_cast<std::size_t>(count));
  checked(H5Aread(attribute.get(), type, values.data()), "read an attribute");
  return values;
}

std::string read_text(hid_t file, const char* name, std::int64_t file_size) {
  const Hdf5Handle attribute = open_attribute(file, name);
  const Hdf5Handle type(H5Aget_type(attribute.get()), H5Tclose, "get the type of an attribute");
  const Hdf5Handle space(H5Aget_space(attribute.get()), H5Sclose, "get the size of an attribute");
  const std::size_t length = H5Tget_size(type.get());
  if (H5Tget_class(type.get()) != H5T_STRING || H5Tis_variable_str(type.get()) != 0 ||
      H5Sget_simple_extent_npoints(space.get()) != 1 || length > static_cast<std::size_t>(file_size)) {
    bad("its attribute '{}' is not a text of fixed length", name);
  }
  std::string text(length, '\0');
  checked(H5Aread(attribute.get(), type.get(), text.data()), "read an attribute");
  text.erase(std::min(text.find('\0'), text.size()));
  return text;
}

ShardInfo read_info(hid_t file, std::int64_t file_size) {
  const std::string format = read_text(file, "format", file_size);
  if (format != kShardFormat) bad("not an activation shard (its format is '{}')", format);
  const auto integer = [&](const char* name) {
    return read_numbers<std::int64_t>(file, name, H5T_STD_I64LE, 0, file_size)[0];
  };
  const auto list = [&](const char* name) {
    return read_numbers<std::int64_t>(file, name, H5T_STD_I64LE, 1, file_size);
  };
  const std::int64_t version = integer("format_version");
  if (version != kShardVersion)
    bad("a shard of format version {}; this program reads version {}", version, kShardVersion);
  ShardInfo info;
  info.model_hash = read_text(file, "model_hash", file_size);
  info.data_fingerprint = read_text(file, "data_fingerprint", file_size);
  info.seed = read_numbers<std::uint64_t>(file, "seed", H5T_STD_U64LE, 0, file_size)[0];
  info.first_image = integer("first_image");
  info.image_count = integer("image_count");
  if (info.first_image < 0 || info.image_count < 0) bad("its range of images is negative");
  const auto numbers = list("layers"), x_widths = list("x_width"), h_widths = list("h_width");
  if (x_widths.size() != numbers.size() || h_widths.size() != numbers.size()) bad("its lists of layers disagree");
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const bool twice = std::find(numbers.begin(), numbers.begin() + static_cast<std::ptrdiff_t>(i), numbers[i]) !=
                       numbers.begin() + static_cast<std::ptrdiff_t>(i);
    if (twice || numbers[i] < 0 || x_widths[i] < 0 || h_widths[i] < 0) bad("its list of layers is damaged");
    info.layers.push_back({numbers[i], x_widths[i], h_widths[i]});
  }
  return info;
}

/// Checksums, alone or after compression.
bool has_our_filters(hid_t creation) {
  std::vector<H5Z_filter_t> filters;
  for (int i = 0; i < H5Pget_nfilters(creation); ++i) {
    unsigned flags = 0;
    std::size_t values = 0;
    filters.push_back(
        H5Pget_filter2(creation, static_cast<unsigned>(i), &flags, &values, nullptr, 0, nullptr, nullptr));
  }
  return filters == std::vector<H5Z_filter_t>{H5Z_FILTER_FLETCHER32} ||
         filters == std::vector<H5Z_filter_t>{H5Z_FILTER_SHUFFLE, H5Z_FILTER_DEFLATE, H5Z_FILTER_FLETCHER32};
}

/// Bytes that one byte of deflate can stand for at most.
constexpr hsize_t kDeflateMost = 1032;

/// Chunks that are in the file. Uncompressed ones follow from the bytes: each carries four of checksum.
hsize_t stored_chunks(hid_t dataset, bool compressed, hsize_t chunk_bytes) {
  if (!compressed) {
    const hsize_t stored = H5Dget_storage_size(dataset);
    return stored % (chunk_bytes + 4) == 0 ? stored / (chunk_bytes + 4) : 0;
  }
  const Hdf5Handle space(H5Dget_space(dataset), H5Sclose, "get the shape of a dataset");
  hsize_t chunks = 0;
  checked(H5Dget_num_chunks(dataset, space.get(), &chunks), "count the chunks of a dataset");
  return chunks;
}

/// A dataset that was found to be what the layout says.
struct CheckedDataset {
  Hdf5Handle id;
  std::int64_t rows = 0;
};

/// Opens `name`, which must be [rows] (`columns` 0) or [rows, columns] of exactly `type`, in chunks that are all there.
CheckedDataset open_dataset(hid_t file, const std::string& name, hid_t type, std::int64_t columns,
                            std::int64_t file_size) {
  const Hdf5Handle access(H5Pcreate(H5P_DATASET_ACCESS), H5Pclose, "create a property list");
  // Four chunks; what has been read to its end is dropped first, as rows are streamed.
  checked(H5Pset_chunk_cache(access.get(), H5D_CHUNK_CACHE_NSLOTS_DEFAULT, 4 * kChunkBytes, 1.0),
          "set the chunk cache");
  CheckedDataset dataset;
  try {
    dataset.id = Hdf5Handle(H5Dopen2(file, name.c_str(), access.get()), H5Dclose, "open");
  } catch (const Hdf5Error& error) {
    bad("the shard is damaged: dataset /{} {}", name, error.what());
  }
  const hid_t id = dataset.id.get();
  const Hdf5Handle stored(H5Dget_type(id), H5Tclose, "get the type of a dataset");
  if (checked(H5Tequal(stored.get(), type), "compare types") == 0) bad("dataset /{} has the wrong type", name);

  const int rank = columns > 0 ? 2 : 1;
  const Hdf5Handle space(H5Dget_space(id), H5Sclose, "get the shape of a dataset");
  hsize_t extent[2] = {0, 0};
  if (H5Sget_simple_extent_ndims(space.get()) != rank) bad("dataset /{} has the wrong rank", name);
  checked(H5Sget_simple_extent_dims(space.get(), extent, nullptr), "get the shape of a dataset");
  if (columns > 0 && extent[1] != static_cast<hsize_t>(columns)) {
    bad("dataset /{} is {} wide, its attributes say {}", name, extent[1], columns);
  }
  const hsize_t row_bytes = H5Tget_size(type) * static_cast<hsize_t>(std::max<std::int64_t>(1, columns));
  const Hdf5Handle creation(H5Dget_create_plist(id), H5Pclose, "get the layout of a dataset");
  hsize_t chunk[2] = {0, 0};
  if (H5Pget_layout(creation.get()) != H5D_CHUNKED || H5Pget_chunk(creation.get(), rank, chunk) != rank ||
      (columns > 0 && chunk[1] != extent[1]) || chunk[0] == 0 ||
      chunk[0] > static_cast<hsize_t>(chunk_rows(static_cast<std::int64_t>(row_bytes))) ||
      !has_our_filters(creation.get())) {
    bad("dataset /{} is not stored as moextract does", name);
  }
  const bool compressed = H5Pget_nfilters(creation.get()) > 1;
  if (extent[0] > static_cast<hsize_t>(file_size) * (compressed ? kDeflateMost : 1) / row_bytes)
    bad("dataset /{} claims more rows than the file can hold", name);
  // HDF5 reads a missing chunk as zeros; count them instead.
  const hsize_t chunks = (extent[0] + chunk[0] - 1) / chunk[0];
  if (stored_chunks(id, compressed, chunk[0] * row_bytes) != chunks) {
    bad("dataset /{} lacks some of its rows", name);
  }
  dataset.rows = static_cast<std::int64_t>(extent[0]);
  return dataset;
}

void read_block(const CheckedDataset& dataset, hid_t type, std::int64_t columns, std::int64_t first, std::int64_t count,
                void* out) {
  const hsize_t start[2] = {static_cast<hsize_t>(first), 0};
  const hsize_t extent[2] = {static_cast<hsize_t>(count), static_cast<hsize_t>(columns)};
  const Hdf5Handle in_file(H5Dget_space(dataset.id.get()), H5Sclose, "get the shape of a dataset");
  checked(H5Sselect_hyperslab(in_file.get(), H5S_SELECT_SET, start, nullptr, extent, nullptr), "select rows");
  const Hdf5Handle in_memory(H5Screate_simple(columns > 0 ? 2 : 1, extent, nullptr), H5Sclose, "create a dataspace");
  checked(H5Dread(dataset.id.get(), type, in_memory.get(), in_file.get(), H5P_DEFAULT, out), "read rows");
}

template <class Number>
std::vector<Number> read_column(const CheckedDataset& dataset, hid_t type) {
  std::vector<Number> values(static_cast<std::size_t>(dataset.rows));
  if (dataset.rows > 0) read_block(dataset, type, 0, 0, dataset.rows, values.data());
  return values;
}

}  // namespace

struct ShardReader::State {
  struct Recorded {
    std::int64_t layer;
    Tap tap;
    std::int64_t width;
    CheckedDataset dataset;
  };

  void open();
  void check_rows() const;
  const Recorded* find(std::int64_t layer, Tap tap) const {
    const auto found = std::find_if(recorded.begin(), recorded.end(),
                                    [&](const Recorded& r) { return r.layer == layer && r.tap == tap; });
    return found == recorded.end() ? nullptr : &*found;
  }

  // In this order: the file is closed last.
  fs::path path;
  std::int64_t file_size = 0, rows = 0;
  ShardInfo info;
  Hdf5Handle file, half, text;
  std::size_t text_length = 0;
  std::vector<Recorded> recorded;
  CheckedDataset row_image, row_token, image_id, image_index, image_label;
};

void ShardReader::State::open() {
  file_size = check_file(path);
  const Hdf5Handle access = shard_file_access();
  file = Hdf5Handle(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose, "open the file");
  info = read_info(file.get(), file_size);
  half = float16_type();
  row_image = open_dataset(file.get(), "rows/image", H5T_STD_I64LE, 0, file_size);
  row_token = open_dataset(file.get(), "rows/token", H5T_STD_I32LE, 0, file_size);
  rows = row_image.rows;
  if (row_token.rows != rows) bad("/rows/token has {} rows, /rows/image {}", row_token.rows, rows);
  for (const ShardLayer& layer : info.layers) {
    for (const Tap tap : {Tap::x, Tap::h}) {
      const std::int64_t width = tap == Tap::x ? layer.x_width : layer.h_width;
      if (width == 0) continue;
      const std::string name = dataset_name(layer.layer, tap);
      recorded.push_back({layer.layer, tap, width, open_dataset(file.get(), name, half.get(), width, file_size)});
      const std::int64_t found = recorded.back().dataset.rows;
      if (found != rows) bad("/{} has {} rows, /rows/image {}", name, found, rows);
    }
  }
  image_index = open_dataset(file.get(), "images/index", H5T_STD_I64LE, 0, file_size);
  image_label = open_dataset(file.get(), "images/label", H5T_STD_I32LE, 0, file_size);
  {
    const Hdf5Handle id(H5Dopen2(file.get(), "images/id", H5P_DEFAULT), H5Dclose, "open dataset /images/id");
    text = Hdf5Handle(H5Dget_type(id.get()), H5Tclose, "get the type of a dataset");
    text_length = H5Tget_size(text.get());
    if (H5Tget_class(text.get()) != H5T_STRING || H5Tis_variable_str(text.get()) != 0) {
      bad("dataset /images/id has the wrong type");
    }
  }
  image_id = open_dataset(file.get(), "images/id", text.get(), 0, file_size);
  if (image_id.rows != image_index.rows || image_label.rows != image_index.rows)
    bad("the datasets of /images differ in length");
  check_rows();
}

// Images ascend and lie in the shard's range; rows belong to listed images in the same order, tokens ascend in an
// image.
void ShardReader::State::check_rows() const {
  const auto images = read_column<std::int64_t>(image_index, H5T_STD_I64LE);
  for (std::size_t i = 0; i < images.size(); ++i) {
    if (images[i] < (i == 0 ? info.first_image : images[i - 1] + 1) ||
        images[i] - info.first_image >= info.image_count) {
      bad("/images/index is not ascending or leaves the shard's range of images (entry {})", i);
    }
  }
  constexpr std::int64_t kBlock = 65536;
  std::vector<std::int64_t> index(static_cast<std::size_t>(std::min(rows, kBlock)));
  std::vector<std::int32_t> token(index.size());
  std::size_t image = 0;
  std::int64_t last_image = -1;
  std::int32_t last_token = -1;
  for (std::int64_t first = 0; first < rows; first += kBlock) {
    const std::int64_t count = std::min(kBlock, rows - first);
    read_block(row_image, H5T_STD_I64LE, 0, first, count, index.data());
    read_block(row_token, H5T_STD_I32LE, 0, first, count, token.data());
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t here = index[static_cast<std::size_t>(i)];
      if (here < last_image) bad("/rows/image is not ascending at row {}", first + i);
      if (here != last_image) last_token = -1;
      while (image < images.size() && images[image] < here) ++image;
      if (image == images.size() || images[image] != here) {
        bad("/rows/image at row {} names image {}, which /images/index does not list", first + i, here);
      }
      if (token[static_cast<std::size_t>(i)] <= last_token) bad("/rows/token is not ascending at row {}", first + i);
      last_token = token[static_cast<std::size_t>(i)];
      last_image = here;
    }
  }
}

ShardReader::ShardReader(const fs::path& path) : state_(std::make_unique<State>()) {
  prepare_hdf5();
  state_->path = path;
  guarded(path, [&] { state_->open(); });
}

ShardReader::~ShardReader() = default;
ShardReader::ShardReader(ShardReader&&) noexcept = default;

const ShardInfo& ShardReader::info() const {
  return state_->info;
}
std::int64_t ShardReader::rows() const {
  return state_->rows;
}

std::int64_t ShardReader::width(std::int64_t layer, Tap tap) const {
  const State::Recorded* recorded = state_->find(layer, tap);
  return recorded == nullptr ? 0 : recorded->width;
}

void ShardReader::read_rows(std::int64_t layer, Tap tap, std::int64_t first, std::int64_t count,
                            std::span<std::uint16_t> out) const {
  prepare_hdf5();
  const State::Recorded* recorded = state_->find(layer, tap);
  MOEX_ASSERT(recorded != nullptr, fmt::format("layer {} records {}", layer, tap_name(tap)));
  MOEX_ASSERT(first >= 0 && count >= 0 && count <= state_->rows - first, "rows lie in the shard");
  MOEX_ASSERT(static_cast<std::int64_t>(out.size()) == count * recorded->width, "room for exactly the rows");
  if (count == 0) return;
  guarded(state_->path, [&] {
    read_block(recorded->dataset, state_->half.get(), recorded->width, first, count, out.data());
    const std::int64_t where = first_non_finite(std::span<const std::uint16_t>(out));
    if (where >= 0) {
      bad("/{} holds infinity or NaN in row {}, column {}", dataset_name(layer, tap), first + where / recorded->width,
          where % recorded->width);
    }
  });
}

void ShardReader::verify() const {
  constexpr std::int64_t kBlockBytes = 4 << 20;
  std::vector<std::uint16_t> block;
  for (const State::Recorded& recorded : state_->recorded) {
    const std::int64_t most = std::max<std::int64_t>(1, kBlockBytes / (2 * recorded.width));
    for (std::int64_t first = 0; first < state_->rows; first += most) {
      const std::int64_t count = std::min(most, state_->rows - first);
      block.resize(static_cast<std::size_t>(count * recorded.width));
      read_rows(recorded.layer, recorded.tap, first, count, block);
    }
  }
  images();  // rows/ and images/index were read when the shard was opened
}

std::vector<std::int32_t> ShardReader::tokens() const {
  prepare_hdf5();
  return guarded(state_->path, [&] { return read_column<std::int32_t>(state_->row_token, H5T_STD_I32LE); });
}

std::vector<std::int64_t> ShardReader::row_images() const {
  prepare_hdf5();
  return guarded(state_->path, [&] { return read_column<std::int64_t>(state_->row_image, H5T_STD_I64LE); });
}

std::vector<ShardImage> ShardReader::images() const {
  prepare_hdf5();
  return guarded(state_->path, [&] {
    const auto indices = read_column<std::int64_t>(state_->image_index, H5T_STD_I64LE);
    const auto labels = read_column<std::int32_t>(state_->image_label, H5T_STD_I32LE);
    std::string ids(indices.size() * state_->text_length, '\0');
    if (!ids.empty()) {
      read_block(state_->image_id, state_->text.get(), 0, 0, state_->image_id.rows, ids.data());
    }
    std::vector<ShardImage> images(indices.size());
    for (std::size_t i = 0; i < images.size(); ++i) {
      images[i].index = indices[i];
      images[i].label = labels[i];
      images[i].id = ids.substr(i * state_->text_length, state_->text_length);
      images[i].id.erase(std::min(images[i].id.find('\0'), images[i].id.size()));
    }
    return images;
  });
}

}  // namespace moextract::store
