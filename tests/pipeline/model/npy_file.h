// Reads NumPy's .npy: float32 matrices in C order, what the reference logits are.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <regex>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/file.h"

namespace moextract::model::test {

struct NpyMatrix {
  std::int64_t rows = 0, columns = 0;
  std::vector<float> values;
};

/// Format version 1; throws std::runtime_error for anything else.
inline NpyMatrix read_npy(const std::filesystem::path& path) {
  const std::string bytes = read_text_file(path);
  if (bytes.size() < 10 || bytes.compare(0, 8, std::string("\x93NUMPY\x01\x00", 8)) != 0) {
    throw std::runtime_error(path.string() + ": not version 1 of .npy");
  }
  const std::size_t length = static_cast<unsigned char>(bytes[8]) + 256u * static_cast<unsigned char>(bytes[9]);
  const std::string header = bytes.substr(10, length);
  std::smatch shape;
  if (header.find("'<f4'") == header.npos || header.find("'fortran_order': False") == header.npos ||
      !std::regex_search(header, shape, std::regex(R"(\((\d+), (\d+)\))"))) {
    throw std::runtime_error(path.string() + ": not a float32 matrix in C order: " + header);
  }
  NpyMatrix matrix{std::stoll(shape[1]), std::stoll(shape[2]), {}};
  matrix.values.resize(static_cast<std::size_t>(matrix.rows * matrix.columns));
  if (bytes.size() != 10 + length + matrix.values.size() * 4) throw std::runtime_error(path.string() + ": cut short");
  std::memcpy(matrix.values.data(), bytes.data() + 10 + length, matrix.values.size() * 4);
  return matrix;
}

}  // namespace moextract::model::test
