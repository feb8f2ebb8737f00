// A shard of recorded activations: one serial HDF5 file that h5py reads. Layout (documented in docs/formats.md):
//
//   /layers/<l>/x   [rows, d]  float16   input of the MLP of encoder block l
//   /layers/<l>/h   [rows, H]  float16   its hidden values after the GELU
//   /rows/image     [rows]     int64     index of the row's image in the calibration set
//   /rows/token     [rows]     int32     token position, 0 = class token
//   /images/id      [images]   UTF-8     names, /images/index int64, /images/label int32
//   chunks of rows, each with a checksum, optionally compressed
//   attributes of /: format, format_version, model_hash, data_fingerprint, seed, first_image, image_count, and
//                    layers, x_width, h_width [layers]
//
// All HDF5 calls of a process are made by one thread at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace moextract::store {

enum class Tap { x, h };
/// How the chunks of a shard are stored.
enum class Compression {
  none,
  deflate  ///< bytes of equal weight side by side (HDF5's shuffle), then zlib
};
std::string tap_name(Tap tap);  ///< "x", "h"

struct ShardLayer {
  std::int64_t layer = 0;                 ///< encoder block
  std::int64_t x_width = 0, h_width = 0;  ///< 0: this tap is not recorded
};

struct ShardInfo {
  std::string model_hash;        ///< of the model file that produced it
  std::string data_fingerprint;  ///< of the image set
  std::uint64_t seed = 0;
  std::int64_t first_image = 0, image_count = 0;  ///< range of the calibration set, skipped images included
  std::vector<ShardLayer> layers;
};

/// Rows of one image: what collect hands over. Same token positions for all layers.
struct ShardImage {
  std::int64_t index = 0;  ///< in the calibration set
  std::string id;
  std::int32_t label = 0;
  std::vector<std::int32_t> tokens;  ///< [t] positions, ascending
};

/// Writes a shard under a temporary name and gives it its final one in finish(); a shard not finished leaves nothing.
/// Timestamps are off and the layout fixed: the same content gives the same bytes.
class ShardWriter {
 public:
  ShardWriter(const std::filesystem::path& path, const ShardInfo& info, Compression compression = Compression::none);
  ~ShardWriter();
  ShardWriter(const ShardWriter&) = delete;
  ShardWriter& operator=(const ShardWriter&) = delete;

  /// Appends images and their rows. `rows[i]` belongs to info.layers[i / 2], tap x for even i, h for odd i: row-major
  /// [sum of tokens, width] float16, empty where the tap is not recorded. Throws UserError (numerics) naming layer,
  /// tap, image and token if a value is not finite, (storage) if the disk refuses.
  void append(std::span<const ShardImage> images, std::span<const std::vector<std::uint16_t>> rows);
  /// Flushes, fsyncs, renames. Nothing may be appended afterwards.
  void finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Reads a finished shard. Opening checks format, version and that all datasets have the same number of rows; throws
/// UserError (input) that names the file, what is wrong with it, and that `collect` makes it again.
class ShardReader {
 public:
  explicit ShardReader(const std::filesystem::path& path);
  ~ShardReader();
  ShardReader(ShardReader&&) noexcept;

  const ShardInfo& info() const;
  std::int64_t rows() const;
  /// Width of a layer's tap; 0 if it is not recorded.
  std::int64_t width(std::int64_t layer, Tap tap) const;
  /// Reads `count` rows from `first` into `out` [count, width]. Throws UserError (input) naming file and row for values
  /// that are not finite.
  void read_rows(std::int64_t layer, Tap tap, std::int64_t first, std::int64_t count,
                 std::span<std::uint16_t> out) const;
  std::vector<std::int32_t> tokens() const;      ///< [rows]
  std::vector<std::int64_t> row_images() const;  ///< [rows]
  std::vector<ShardImage> images() const;        ///< without tokens
  /// Reads everything there is, so that every checksum is looked at. Throws UserError (input) as read_rows does.
  void verify() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace moextract::store
