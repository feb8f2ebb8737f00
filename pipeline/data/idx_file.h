// The IDX format of the MNIST family, plain or gzip: unsigned bytes with a big-endian header of their sizes.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <vector>

namespace moextract::data {

struct IdxShape {
  std::int64_t count = 0;
  int height = 0, width = 0;
  bool operator==(const IdxShape&) const = default;
};

struct IdxImages {
  IdxShape shape;
  std::vector<std::uint8_t> pixels;  ///< [count, height, width]
};

/// Of the header alone: whether as many images follow is not looked at. Throws UserError (input) for a foreign magic
/// number.
IdxShape read_idx_shape(const std::filesystem::path& path);
/// Whole file into memory. Throws UserError (input) for a foreign magic number and for a size that does not fit the
/// header.
IdxImages read_idx_images(const std::filesystem::path& path);
std::vector<std::uint8_t> read_idx_labels(const std::filesystem::path& path);

}  // namespace moextract::data
