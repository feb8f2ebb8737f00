// What the sets of product_kernels.h share among each other; nobody else includes it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "cluster/product_kernels.h"
#include "core/float16.h"

namespace moextract::cluster {

const ProductKernels& portable_kernels();
#if defined(__x86_64__)
const ProductKernels& avx2_kernels();
const ProductKernels& avx512_kernels();
const ProductKernels& avx512_vnni_kernels();

#define MOEX_AVX2 __attribute__((target("avx2,f16c,fma")))
#define MOEX_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,f16c,fma")))
#define MOEX_VNNI __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c,fma")))
#endif

// Inlined into a function of each target, so that each is compiled for its own vectors.
inline __attribute__((always_inline)) float score_bounds_any(const std::int32_t* products, const ScoreTerms& terms,
                                                             std::int64_t count, float* lower, float* upper) {
  const float unit = terms.row_unit, error = terms.row_error, reach = terms.row_reach;
  float least[kPanelCentroids];
  std::fill(least, least + kPanelCentroids, INFINITY);
  for (std::int64_t first = 0; first < count; first += kPanelCentroids) {
    for (int i = 0; i < kPanelCentroids; ++i) {
      const std::int64_t c = first + i;
      const float squares = terms.centroid_squares[c];
      const float score = squares - static_cast<float>(products[c]) * terms.units[c] * unit;
      const float slack = error * terms.norms[c] + reach * terms.errors[c] + kScoreSlack * squares;
      lower[c] = score - slack;
      upper[c] = score + slack;
      least[i] = upper[c] < least[i] ? upper[c] : least[i];
    }
  }
  return *std::min_element(least, least + kPanelCentroids);
}

// The columns from `first` to `last` of ProductKernels::add_halves.
inline void add_halves_from(const std::uint16_t* const* rows, const signed char* signs, std::int64_t count,
                            std::int64_t first, std::int64_t last, std::uint64_t* sums) {
  for (std::int64_t r = 0; r < count; ++r) {
    for (std::int64_t j = first; j < last; ++j) {
      sums[j] += static_cast<std::uint64_t>(signs[r] * float16_to_fixed(rows[r][j]));
    }
  }
}

// A pair of neighbouring 16-bit values, as it stands in memory.
inline std::int32_t pair_at(const std::int16_t* values) {
  std::int32_t pair;
  std::memcpy(&pair, values, sizeof pair);
  return pair;
}

}  // namespace moextract::cluster
