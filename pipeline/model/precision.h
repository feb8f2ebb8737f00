// The numbers that a forward pass multiplies.
#pragma once

#include <string_view>

namespace moextract::model {

/// Of the products with weights, and with keys and values. Sums, norms, softmax, GELU and the residual stream are
/// float32 in all of them, and so is the router's choice.
enum class Precision {
  float32,
  bfloat16,  ///< weights and activations rounded to bfloat16, summed in float32
  int16      ///< weights and activations as 16-bit integers times a step of their row, summed without rounding
};
std::string_view name_of(Precision precision);
/// The fastest one that is at least as accurate as bfloat16, on any processor the same: results may depend on it.
inline constexpr Precision kFastPrecision = Precision::int16;

}  // namespace moextract::model
