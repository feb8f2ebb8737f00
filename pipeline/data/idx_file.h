// The IDX format of the MNIST family, plain or gzip: unsigned bytes with a big-endian header of their sizes.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <vector>

namespace moextract::data {

struct IdxImages {
  std::int64_t count = 0;
  int height = 0, width = 0;
  std::vector<std::uint8_t> pixels;  ///< [count, height, width]
};

/// Whole file into memory. Throws UserError (input) for a foreign magic number and for a size that does not fit the
/// header.
IdxImages read_idx_images(const std::filesystem::path& path);
std::vector<std::uint8_t> read_idx_labels(const std::filesystem::path& path);

}  // namespace moextract::data
