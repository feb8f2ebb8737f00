// The innermost loops of clustering: products of rows and centroids that were rounded to 16-bit integers, in 32-bit
// integers. Integer products are exact, so every instruction set gives the same numbers; docs/clustering-kmeans.md
// bounds what the rounding to 16 bits costs.
#pragma once

#include <cstdint>

namespace moextract::cluster {

/// `portable` needs nothing; the others are x86-64. AVX-512 VNNI multiplies and adds 32 pairs an instruction.
enum class InstructionSet { portable, avx2, avx512, avx512_vnni };

/// Can this processor run it?
bool is_supported(InstructionSet set);
const char* name_of(InstructionSet set);

/// Centroids side by side in a panel.
inline constexpr int kPanelCentroids = 16;
/// Rows that a kernel takes at a time.
inline constexpr int kKernelRows = 12;
/// Rows and centroids are padded with zeros to a multiple of this.
inline constexpr std::int64_t kDepthStep = 32;
constexpr std::int64_t padded_depth(std::int64_t dimension) {
  return (dimension + kDepthStep - 1) / kDepthStep * kDepthStep;
}

/// No row and no centroid is longer, in units of its rounding: a product of two is then below 2^31.
inline constexpr double kLongestRounded = 46340;
/// What a value may be before it is rounded.
inline constexpr double kLargestRounded = 32766;

/// What the first reading of a row tells.
struct RowExtent {
  float squares = 0;  ///< sum of squares of the output, within (dimension + 16) * 2^-24 of the true one, relatively
  float largest = 0;  ///< largest |value|
};

/// score[i] = centroid_squares[i] - products[i] * units[i] * row_unit, within
/// row_error * norms[i] + row_reach * errors[i] + kScoreSlack * centroid_squares[i].
struct ScoreTerms {
  const float* centroid_squares;
  const float* units;
  const float* norms;
  const float* errors;
  float row_unit, row_error, row_reach;
};
inline constexpr float kScoreSlack = 0x1.0p-20f;

struct ProductKernels {
  InstructionSet set;
  /// out[j] = float16 row[j] - centre[j] for j < dimension (one rounding each), 0 up to padded_depth. NaN and infinity
  /// make `squares` NaN or infinite.
  RowExtent (*centre_half)(const std::uint16_t* row, const float* centre, std::int64_t dimension, float* out);
  RowExtent (*centre_float)(const float* row, const float* centre, std::int64_t dimension, float* out);
  /// out[j] = from[j] * scale, to the nearest integer; `scale` is a power of 2, |out| <= 32767.
  void (*round)(const float* from, float scale, std::int64_t depth, std::int16_t* out);
  /// out[r * stride + c] = rows[r] . centroid c, for kKernelRows rows of `depth` values and `panels` panels, each
  /// [depth / 2, kPanelCentroids, 2].
  void (*products)(const std::int16_t* const* rows, const std::int16_t* panels, std::int64_t panel_count,
                   std::int64_t depth, std::int32_t* out, std::int64_t stride);
  /// out[i] = row . centroids[ids[i]], centroids row-major.
  void (*some_products)(const std::int16_t* row, const std::int16_t* centroids, const std::int32_t* ids,
                        std::int64_t count, std::int64_t depth, std::int32_t* out);
  /// Scores of a row and `count` centroids (a multiple of kPanelCentroids) with their bounds, see ScoreTerms. Returns
  /// the lowest upper bound.
  float (*score_bounds)(const std::int32_t* products, const ScoreTerms& terms, std::int64_t count, float* lower,
                        float* upper);
  /// Writes the i with lower[i] <= limit, ascending, and returns how many; `count` as above.
  std::int64_t (*select_at_most)(const float* lower, std::int64_t count, float limit, std::int32_t* ids);
  /// Writes the i with bounds[i] <= min(reach + drifts[i], 65535), ascending, and returns how many; `count` as above.
  std::int64_t (*select_within)(const std::uint16_t* bounds, const std::uint16_t* drifts, std::uint16_t reach,
                                std::int64_t count, std::int32_t* ids);
  /// Whether there is any such i.
  bool (*any_within)(const std::uint16_t* bounds, const std::uint16_t* drifts, std::uint16_t reach, std::int64_t count);
  /// out[i] = min(max(0, floor(sqrt(max(0, squares + lower[i])) * scale) - 1) + drifts[i], 65534).
  void (*distance_floors)(const float* lower, float squares, float scale, const std::uint16_t* drifts,
                          std::int64_t count, std::uint16_t* out);
  /// sums[j] += signs[r] * rows[r][j] * 2^24 over `count` float16 rows of magnitudes below 128, as integers modulo
  /// 2^64; signs are 1 and -1.
  void (*add_halves)(const std::uint16_t* const* rows, const signed char* signs, std::int64_t count,
                     std::int64_t dimension, std::uint64_t* sums);
};

/// Throws BugError if the processor cannot run it.
const ProductKernels& kernels_for(InstructionSet set);
/// Those of the best supported set, or of the one that was chosen.
const ProductKernels& kernels();
/// For tests and measurements: the results are the same.
void choose_instruction_set(InstructionSet set);

}  // namespace moextract::cluster
