// The kernels in plain C++, for any processor: what the others are compared with.
#include <algorithm>
#include <cmath>

#include "cluster/product_kernel_sets.h"

namespace moextract::cluster {
namespace {

float score_bounds_portable(const std::int32_t* products, const ScoreTerms& terms, std::int64_t count, float* lower,
                            float* upper) {
  return score_bounds_any(products, terms, count, lower, upper);
}

std::int64_t select_at_most_portable(const float* lower, std::int64_t count, float limit, std::int32_t* ids) {
  std::int64_t found = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    if (lower[i] <= limit) ids[found++] = static_cast<std::int32_t>(i);
  }
  return found;
}

std::int64_t select_within_portable(const std::uint16_t* bounds, const std::uint16_t* drifts, std::uint16_t reach,
                                    std::int64_t count, std::int32_t* ids) {
  std::int64_t found = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    if (bounds[i] <= std::min(reach + drifts[i], 65535)) ids[found++] = static_cast<std::int32_t>(i);
  }
  return found;
}

bool any_within_portable(const std::uint16_t* bounds, const std::uint16_t* drifts, std::uint16_t reach,
                         std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    if (bounds[i] <= std::min(reach + drifts[i], 65535)) return true;
  }
  return false;
}

void distance_floors_portable(const float* lower, float squares, float scale, const std::uint16_t* drifts,
                              std::int64_t count, std::uint16_t* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    const float distance = std::sqrt(std::max(0.0f, squares + lower[i])) * scale;
    const int floored = std::max(0, static_cast<int>(std::min(distance, 65535.0f)) - 1);
    out[i] = static_cast<std::uint16_t>(std::min(floored + drifts[i], 65534));
  }
}

RowExtent centre_half_portable(const std::uint16_t* row, const float* centre, std::int64_t dimension, float* out) {
  RowExtent extent;
  for (std::int64_t j = 0; j < dimension; ++j) {
    if (!float16_is_finite(row[j])) extent.squares = INFINITY;
    out[j] = static_cast<float>(static_cast<double>(float16_to_fixed(row[j])) * kFloat16FixedUnit) - centre[j];
    extent.squares += out[j] * out[j];
    extent.largest = std::max(extent.largest, std::fabs(out[j]));
  }
  std::fill(out + dimension, out + padded_depth(dimension), 0.0f);
  return extent;
}

RowExtent centre_float_portable(const float* row, const float* centre, std::int64_t dimension, float* out) {
  RowExtent extent;
  for (std::int64_t j = 0; j < dimension; ++j) {
    out[j] = row[j] - centre[j];
    extent.squares += out[j] * out[j];
    extent.largest = std::max(extent.largest, std::fabs(out[j]));
  }
  std::fill(out + dimension, out + padded_depth(dimension), 0.0f);
  return extent;
}

void round_portable(const float* from, float scale, std::int64_t depth, std::int16_t* out) {
  for (std::int64_t j = 0; j < depth; ++j) out[j] = static_cast<std::int16_t>(std::lrint(from[j] * scale));
}

std::int32_t product_portable(const std::int16_t* a, const std::int16_t* b, std::int64_t depth, std::int64_t stride) {
  std::int32_t sum = 0;
  for (std::int64_t j = 0; j < depth; j += 2) sum += a[j] * b[j / 2 * stride] + a[j + 1] * b[j / 2 * stride + 1];
  return sum;
}

void products_portable(const std::int16_t* const* rows, const std::int16_t* panels, std::int64_t panel_count,
                       std::int64_t depth, std::int32_t* out, std::int64_t stride) {
  for (std::int64_t p = 0; p < panel_count; ++p) {
    for (int r = 0; r < kKernelRows; ++r) {
      for (int c = 0; c < kPanelCentroids; ++c) {
        out[r * stride + p * kPanelCentroids + c] =
            product_portable(rows[r], panels + p * depth * kPanelCentroids + 2 * c, depth, 2 * kPanelCentroids);
      }
    }
  }
}

void some_products_portable(const std::int16_t* row, const std::int16_t* centroids, const std::int32_t* ids,
                            std::int64_t count, std::int64_t depth, std::int32_t* out) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = product_portable(row, centroids + ids[i] * depth, depth, 2);
}
void add_halves_portable(const std::uint16_t* const* rows, const signed char* signs, std::int64_t count,
                         std::int64_t dimension, std::uint64_t* sums) {
  add_halves_from(rows, signs, count, 0, dimension, sums);
}

constexpr ProductKernels kPortable = {InstructionSet::portable, centre_half_portable,     centre_float_portable,
                                      round_portable,           products_portable,        some_products_portable,
                                      score_bounds_portable,    select_at_most_portable,  select_within_portable,
                                      any_within_portable,      distance_floors_portable, add_halves_portable};

}  // namespace

const ProductKernels& portable_kernels() {
  return kPortable;
}

}  // namespace moextract::cluster
