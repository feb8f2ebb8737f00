// The grid on which centroids lie: floats that are multiples of 2^-36. Rows are multiples of 2^-24, so that scores of
// rows and centroids are integers in units of 2^-72 and can be compared exactly.
#pragma once

#include <cmath>
#include <cstdint>

namespace moextract::cluster {

inline constexpr double kCentroidUnit = 0x1.0p-36;
/// Centroids are means of float16 values, so no value is larger than theirs; given ones may not be either.
inline constexpr float kLargestCentroidValue = 65536.0f;

/// The float nearest to `value`, brought to the grid. Floats of 2^-12 and more are on it already; below that the
/// distance to the grid is at most 2^-37, a thousandth of the smallest float16.
inline float to_centroid_grid(double value) {
  const float rounded = static_cast<float>(value);
  if (std::fabs(rounded) >= 0x1.0p-12f) return rounded;
  return static_cast<float>(std::rint(static_cast<double>(rounded) * 0x1.0p36) * kCentroidUnit);
}

/// A value of the grid in its units; below 2^53.
inline std::int64_t centroid_to_fixed(float value) {
  return static_cast<std::int64_t>(static_cast<double>(value) * 0x1.0p36);
}

/// Squared norms and products of a row (in 2^-24) and a centroid (in 2^-36) in one unit, 2^-72.
inline __int128 exact_score(__int128 centroid_squares, __int128 product) {
  return centroid_squares - (product << 13);  // |c|^2 - 2 x.c, 2^13 = 2 * 2^-60 / 2^-72
}

}  // namespace moextract::cluster
