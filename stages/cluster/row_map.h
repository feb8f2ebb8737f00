// An affine map of rows: what rows that were not recorded are computed by.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/workers.h"

namespace moextract::stages {

/// y = weight x + bias.
struct RowMap {
  std::int64_t outputs = 0, inputs = 0;
  std::vector<float> weight;  ///< [outputs, inputs]
  std::vector<float> bias;    ///< [outputs], or empty: none
};

/// The map of rows: each value is one sum in double, the bias first, then the inputs in ascending order, whose products
/// are exact: the same bits on every machine, for any blocks. `x` is [n, inputs], `y` [n, outputs], float16 bits.
/// Values beyond float16 become infinite.
void map_rows(const RowMap& map, std::span<const std::uint16_t> x, std::span<std::uint16_t> y, Workers& workers);

}  // namespace moextract::stages
