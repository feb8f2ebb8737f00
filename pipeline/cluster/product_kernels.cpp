#include "cluster/product_kernels.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "core/error.h"
#include "core/float16.h"

// GCC 12 takes the undefined operands of its own AVX-512 intrinsics for uninitialised ones.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

namespace moextract::cluster {
namespace {

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

void add_halves_from(const std::uint16_t* const* rows, const signed char* signs, std::int64_t count, std::int64_t first,
                     std::int64_t last, std::uint64_t* sums) {
  for (std::int64_t r = 0; r < count; ++r) {
    for (std::int64_t j = first; j < last; ++j) {
      sums[j] += static_cast<std::uint64_t>(signs[r] * float16_to_fixed(rows[r][j]));
    }
  }
}

void add_halves_portable(const std::uint16_t* const* rows, const signed char* signs, std::int64_t count,
                         std::int64_t dimension, std::uint64_t* sums) {
  add_halves_from(rows, signs, count, 0, dimension, sums);
}

constexpr ProductKernels kPortable = {InstructionSet::portable, centre_half_portable,     centre_float_portable,
                                      round_portable,           products_portable,        some_products_portable,
                                      score_bounds_portable,    select_at_most_portable,  select_within_portable,
                                      any_within_portable,      distance_floors_portable, add_halves_portable};

#if defined(__x86_64__)

#define MOEX_AVX2 __attribute__((target("avx2,f16c,fma")))
#define MOEX_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,f16c,fma")))
#define MOEX_VNNI __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c,fma")))

// A pair of neighbouring 16-bit values, as it stands in memory.
inline std::int32_t pair_at(const std::int16_t* values) {
  std::int32_t pair;
  std::memcpy(&pair, values, sizeof pair);
  return pair;
}

// ---- AVX2: 6 rows by 2 vectors of 8 centroids are 12 accumulators of the 16 registers.

MOEX_AVX2 inline __m256i add_pairs(__m256i sum, __m256i a, __m256i b) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}

MOEX_AVX2 void products_avx2(const std::int16_t* const* rows, const std::int16_t* panels, std::int64_t panel_count,
                             std::int64_t depth, std::int32_t* out, std::int64_t stride) {
  constexpr int kRows = 6;
  static_assert(kKernelRows % kRows == 0);
  for (std::int64_t p = 0; p < panel_count; ++p) {
    const std::int16_t* panel = panels + p * depth * kPanelCentroids;
    for (int first = 0; first < kKernelRows; first += kRows) {
      const std::int16_t* const* row = rows + first;
      __m256i sums[kRows][2] = {};
      for (std::int64_t j = 0; j < depth; j += 2) {
        const auto* at = reinterpret_cast<const __m256i*>(panel + j * kPanelCentroids);
        const __m256i left = _mm256_loadu_si256(at), right = _mm256_loadu_si256(at + 1);
#pragma GCC unroll 6
        for (int r = 0; r < kRows; ++r) {
          const __m256i x = _mm256_set1_epi32(pair_at(row[r] + j));
          sums[r][0] = add_pairs(sums[r][0], x, left);
          sums[r][1] = add_pairs(sums[r][1], x, right);
        }
      }
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
        auto* to = reinterpret_cast<__m256i*>(out + (first + r) * stride + p * kPanelCentroids);
        _mm256_storeu_si256(to, sums[r][0]);
        _mm256_storeu_si256(to + 1, sums[r][1]);
      }
    }
  }
}

MOEX_AVX2 inline std::int32_t sum_lanes(__m256i v) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
  return _mm_cvtsi128_si32(s);
}

MOEX_AVX2 void some_products_avx2(const std::int16_t* row, const std::int16_t* centroids, const std::int32_t* ids,
                                  std::int64_t count, std::int64_t depth, std::int32_t* out) {
  std::int64_t first = 0;
  for (; first + 4 <= count; first += 4) {
    const std::int16_t* c[4];
    for (int i = 0; i < 4; ++i) c[i] = centroids + ids[first + i] * depth;
    __m256i sums[4] = {};
    for (std::int64_t j = 0; j < depth; j += 16) {
      const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + j));
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        sums[i] = add_pairs(sums[i], x, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(c[i] + j)));
      }
    }
    for (int i = 0; i < 4; ++i) out[first + i] = sum_lanes(sums[i]);
  }
  for (; first < count; ++first) {
    const std::int16_t* c = centroids + ids[first] * depth;
    __m256i sums[2] = {};
    for (std::int64_t j = 0; j < depth; j += 32) {
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
        sums[i] = add_pairs(sums[i], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + j + 16 * i)),
                            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(c + j + 16 * i)));
      }
    }
    out[first] = sum_lanes(_mm256_add_epi32(sums[0], sums[1]));
  }
}

MOEX_AVX2 RowExtent finish(__m256 squares, __m256 largest, const float* out, std::int64_t from, std::int64_t to) {
  alignas(32) float lanes[2][8];
  _mm256_store_ps(lanes[0], squares);
  _mm256_store_ps(lanes[1], largest);
  RowExtent extent;
  for (int i = 0; i < 8; ++i) {
    extent.squares += lanes[0][i];
    extent.largest = std::max(extent.largest, lanes[1][i]);
  }
  for (std::int64_t j = from; j < to; ++j) {
    extent.squares += out[j] * out[j];
    extent.largest = std::max(extent.largest, std::fabs(out[j]));
  }
  return extent;
}

template <class Load>
MOEX_AVX2 inline __attribute__((always_inline)) RowExtent centre_avx2(const Load& load, const float* centre,
                                                                      std::int64_t dimension, float* out) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  __m256 squares = _mm256_setzero_ps(), largest = _mm256_setzero_ps();
  std::int64_t j = 0;
  for (; j + 8 <= dimension; j += 8) {
    const __m256 y = _mm256_sub_ps(load.eight(j), _mm256_loadu_ps(centre + j));
    _mm256_storeu_ps(out + j, y);
    squares = _mm256_fmadd_ps(y, y, squares);
    largest = _mm256_max_ps(largest, _mm256_andnot_ps(sign, y));
  }
  const std::int64_t whole = j;
  for (; j < dimension; ++j) out[j] = load.one(j) - centre[j];
  std::fill(out + dimension, out + padded_depth(dimension), 0.0f);
  return finish(squares, largest, out, whole, dimension);
}

struct LoadHalf {
  const std::uint16_t* row;
  MOEX_AVX2 __m256 eight(std::int64_t j) const {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row + j)));
  }
  MOEX_AVX2 float one(std::int64_t j) const { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(row[j]))); }
};
struct LoadFloat {
  const float* row;
  MOEX_AVX2 __m256 eight(std::int64_t j) const { return _mm256_loadu_ps(row + j); }
  MOEX_AVX2 float one(std::int64_t j) const { return row[j]; }
};

MOEX_AVX2 RowExtent centre_half_avx2(const std::uint16_t* row, const float* centre, std::int64_t dimension,
                                     float* out) {
  return centre_avx2(LoadHalf{row}, centre, dimension, out);
}
MOEX_AVX2 RowExtent centre_float_avx2(const float* row, const float* centre, std::int64_t dimension, float* out) {
  return centre_avx2(LoadFloat{row}, centre, dimension, out);
}

MOEX_AVX2 void round_avx2(const float* from, float scale, std::int64_t depth, std::int16_t* out) {
  const __m256 s = _mm256_set1_ps(scale);
  for (std::int64_t j = 0; j < depth; j += 16) {
    const __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(from + j), s));
    const __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(from + j + 8), s));
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + j), packed);
  }
}

MOEX_AVX2 float score_bounds_avx2(const std::int32_t* products, const ScoreTerms& terms, std::int64_t count,
                                  float* lower, float* upper) {
  return score_bounds_any(products, terms, count, lower, upper);
}

// `mask` has kStride bits for each number from `first` on.
template <int kStride>
inline std::int64_t append_ids(std::uint32_t mask, std::int64_t first, std::int32_t* ids, std::int64_t found) {
  while (mask != 0) {
    const int bit = __builtin_ctz(mask);
    ids[found++] = static_cast<std::int32_t>(first + bit / kStride);
    mask &= ~(((1u << kStride) - 1) << bit);
  }
  return found;
}

MOEX_AVX2 std::int64_t select_at_most_avx2(const float* lower, std::int64_t count, float limit, std::int32_t* ids) {
  const __m256 limits = _mm256_set1_ps(limit);
  std::int64_t found = 0;
  for (std::int64_t i = 0; i < count; i += 8) {
    const int mask = _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(lower + i), limits, _CMP_LE_OQ));
    found = append_ids<1>(static_cast<std::uint32_t>(mask), i, ids, found);
  }
  return found;
}

MOEX_AVX2 std::int64_t select_within_avx2(const std::uint16_t* bounds, const std::uint16_t* drifts, std::uint16_t reach,
                                          std::int64_t count, std::int32_t* ids) {
  const __m256i reaches = _mm256_set1_epi16(static_cast<short>(reach));
  std::int64_t found = 0;
  for (std::int64_t i = 0; i < count; i += 16) {
    const __m256i limit = _mm256_adds_epu16(reaches, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(drifts + i)));
    const __m256i bound = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bounds + i));
    const __m256i within = _mm256_cmpeq_epi16(_mm256_max_epu16(limit, bound), limit);
    found = append_ids<2>(static_cast<std::uint32_t>(_mm256_movemask_epi8(within)), i, ids, found);
  }
  return found;
}

MOEX_AVX2 bool any_within_avx2(const std::uint16_t* bounds, const std::uint16_t* drifts, std::uint16_t reach,
                               std::int64_t count) {
  const __m256i reaches = _mm256_set1_epi16(static_cast<short>(reach));
  __m256i any = _mm256_setzero_si256();
  for (std::int64_t i = 0; i < count; i += 16) {
    const __m256i limit = _mm256_adds_epu16(reaches, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(drifts + i)));
    const __m256i bound = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bounds + i));
    any = _mm256_or_si256(any, _mm256_cmpeq_epi16(_mm256_max_epu16(limit, bound), limit));
  }
  return _mm256_testz_si256(any, any) == 0;
}

MOEX_AVX2 void distance_floors_avx2(const float* lower, float squares, float scale, const std::uint16_t* drifts,
                                    std::int64_t count, std::uint16_t* out) {
  const __m256 add = _mm256_set1_ps(squares), factor = _mm256_set1_ps(scale), top = _mm256_set1_ps(65535.0f);
  const __m256i one = _mm256_set1_epi32(1), most = _mm256_set1_epi32(65534), zero = _mm256_setzero_si256();
  for (std::int64_t i = 0; i < count; i += 16) {
    __m256i parts[2];
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      const __m256 square = _mm256_max_ps(_mm256_setzero_ps(), _mm256_add_ps(add, _mm256_loadu_ps(lower + i + 8 * h)));
      const __m256 distance = _mm256_min_ps(_mm256_mul_ps(_mm256_sqrt_ps(square), factor), top);
      const __m256i floored = _mm256_max_epi32(zero, _mm256_sub_epi32(_mm256_cvttps_epi32(distance), one));
      const __m256i drift =
          _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(drifts + i + 8 * h)));
      parts[h] = _mm256_min_epi32(most, _mm256_add_epi32(floored, drift));
    }
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(parts[0], parts[1]), 0xd8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), packed);
  }
}

// 32 columns at a time: a line of each row, and 8 sums in registers while the rows pass.
MOEX_AVX2 void add_halves_avx2(const std::uint16_t* const* rows, const signed char* signs, std::int64_t count,
                               std::int64_t dimension, std::uint64_t* sums) {
  const __m256 scale = _mm256_set1_ps(0x1.0p24f);
  std::int64_t j = 0;
  for (; j + 32 <= dimension; j += 32) {
    auto* at = reinterpret_cast<__m256i*>(sums + j);
    __m256i sum[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) sum[i] = _mm256_loadu_si256(at + i);
    for (std::int64_t r = 0; r < count; ++r) {
      // Exact: a float16 is a whole number of 2^-24. The sign goes in before the conversion.
      const __m256 factor = signs[r] < 0 ? _mm256_sub_ps(_mm256_setzero_ps(), scale) : scale;
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[r] + j + 8 * i));
        const __m256i fixed = _mm256_cvttps_epi32(_mm256_mul_ps(_mm256_cvtph_ps(bits), factor));
        sum[2 * i] = _mm256_add_epi64(sum[2 * i], _mm256_cvtepi32_epi64(_mm256_castsi256_si128(fixed)));
        sum[2 * i + 1] = _mm256_add_epi64(sum[2 * i + 1], _mm256_cvtepi32_epi64(_mm256_extracti128_si256(fixed, 1)));
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) _mm256_storeu_si256(at + i, sum[i]);
  }
  if (j < dimension) add_halves_from(rows, signs, count, j, dimension, sums);
}

constexpr ProductKernels kAvx2 = {InstructionSet::avx2, centre_half_avx2,   centre_float_avx2,    round_avx2,
                                  products_avx2,        some_products_avx2, score_bounds_avx2,    select_at_most_avx2,
                                  select_within_avx2,   any_within_avx2,    distance_floors_avx2, add_halves_avx2};

// ---- AVX-512: 12 rows by 2 panels are 24 accumulators of the 32 registers.

struct Multiply512 {
  MOEX_AVX512 static __m512i add(__m512i sum, __m512i a, __m512i b) {
    return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b));
  }
};
struct MultiplyVnni {
  MOEX_VNNI static __m512i add(__m512i sum, __m512i a, __m512i b) { return _mm512_dpwssd_epi32(sum, a, b); }
};

template <class Multiply, int panels>
MOEX_VNNI inline __attribute__((always_inline)) void block_512(const std::int16_t* const* rows,
                                                               const std::int16_t* panel, std::int64_t depth,
                                                               std::int32_t* out, std::int64_t stride) {
  __m512i sums[kKernelRows][panels];
#pragma GCC unroll 12
  for (int r = 0; r < kKernelRows; ++r) {
#pragma GCC unroll 2
    for (int p = 0; p < panels; ++p) sums[r][p] = _mm512_setzero_si512();
  }
  for (std::int64_t j = 0; j < depth; j += 2) {
    __m512i c[panels];
#pragma GCC unroll 2
    for (int p = 0; p < panels; ++p) c[p] = _mm512_loadu_si512(panel + (p * depth + j) * kPanelCentroids);
#pragma GCC unroll 12
    for (int r = 0; r < kKernelRows; ++r) {
      const __m512i x = _mm512_set1_epi32(pair_at(rows[r] + j));
#pragma GCC unroll 2
      for (int p = 0; p < panels; ++p) sums[r][p] = Multiply::add(sums[r][p], x, c[p]);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < kKernelRows; ++r) {
#pragma GCC unroll 2
    for (int p = 0; p < panels; ++p) _mm512_storeu_si512(out + r * stride + p * kPanelCentroids, sums[r][p]);
  }
}

template <class Multiply>
MOEX_VNNI inline __attribute__((always_inline)) void all_blocks_512(const std::int16_t* const* rows,
                                                                    const std::int16_t* panels,
                                                                    std::int64_t panel_count, std::int64_t depth,
                                                                    std::int32_t* out, std::int64_t stride) {
  const std::int16_t* row[kKernelRows];
  std::copy_n(rows, kKernelRows, row);
  std::int64_t p = 0;
  for (; p + 2 <= panel_count; p += 2) {
    block_512<Multiply, 2>(row, panels + p * depth * kPanelCentroids, depth, out + p * kPanelCentroids, stride);
  }
  if (p < panel_count) {
    block_512<Multiply, 1>(row, panels + p * depth * kPanelCentroids, depth, out + p * kPanelCentroids, stride);
  }
}

template <class Multiply>
MOEX_VNNI inline __attribute__((always_inline)) void some_products_512(const std::int16_t* row,
                                                                       const std::int16_t* centroids,
                                                                       const std::int32_t* ids, std::int64_t count,
                                                                       std::int64_t depth, std::int32_t* out) {
  std::int64_t first = 0;
  for (; first + 4 <= count; first += 4) {
    const std::int16_t* c[4];
    for (int i = 0; i < 4; ++i) c[i] = centroids + ids[first + i] * depth;
    __m512i sums[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
    for (std::int64_t j = 0; j < depth; j += 32) {
      const __m512i x = _mm512_loadu_si512(row + j);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) sums[i] = Multiply::add(sums[i], x, _mm512_loadu_si512(c[i] + j));
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) out[first + i] = _mm512_reduce_add_epi32(sums[i]);
  }
  for (; first < count; ++first) {
    const std::int16_t* c = centroids + ids[first] * depth;
    __m512i even = _mm512_setzero_si512(), odd = even;
    std::int64_t j = 0;
    for (; j + 64 <= depth; j += 64) {
      even = Multiply::add(even, _mm512_loadu_si512(row + j), _mm512_loadu_si512(c + j));
      odd = Multiply::add(odd, _mm512_loadu_si512(row + j + 32), _mm512_loadu_si512(c + j + 32));
    }
    if (j < depth) even = Multiply::add(even, _mm512_loadu_si512(row + j), _mm512_loadu_si512(c + j));
    out[first] = _mm512_reduce_add_epi32(_mm512_add_epi32(even, odd));
  }
}

MOEX_VNNI void products_vnni(const std::int16_t* const* rows, const std::int16_t* panels, std::int64_t panel_count,
                             std::int64_t depth, std::int32_t* out, std::int64_t stride) {
  all_blocks_512<MultiplyVnni>(rows, panels, panel_count, depth, out, stride);
}
MOEX_VNNI void some_products_vnni(const std::int16_t* row, const std::int16_t* centroids, const std::int32_t* ids,
                                  std::int64_t count, std::int64_t depth, std::int32_t* out) {
  some_products_512<MultiplyVnni>(row, centroids, ids, count, depth, out);
}

MOEX_AVX512 RowExtent finish_512(__m512 squares, __m512 largest, const float* out, std::int64_t from, std::int64_t to) {
  RowExtent extent{_mm512_reduce_add_ps(squares), _mm512_reduce_max_ps(largest)};
  for (std::int64_t j = from; j < to; ++j) {
    extent.squares += out[j] * out[j];
    extent.largest = std::max(extent.largest, std::fabs(out[j]));
  }
  return extent;
}

MOEX_AVX512 RowExtent centre_half_512(const std::uint16_t* row, const float* centre, std::int64_t dimension,
                                      float* out) {
  __m512 squares = _mm512_setzero_ps(), largest = _mm512_setzero_ps();
  std::int64_t j = 0;
  for (; j + 16 <= dimension; j += 16) {
    const __m512 x = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + j)));
    const __m512 y = _mm512_sub_ps(x, _mm512_loadu_ps(centre + j));
    _mm512_storeu_ps(out + j, y);
    squares = _mm512_fmadd_ps(y, y, squares);
    largest = _mm512_max_ps(largest, _mm512_abs_ps(y));
  }
  const std::int64_t whole = j;
  for (; j < dimension; ++j) out[j] = _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(row[j]))) - centre[j];
  std::fill(out + dimension, out + padded_depth(dimension), 0.0f);
  return finish_512(squares, largest, out, whole, dimension);
}

MOEX_AVX512 RowExtent centre_float_512(const float* row, const float* centre, std::int64_t dimension, float* out) {
  __m512 squares = _mm512_setzero_ps(), largest = _mm512_setzero_ps();
  std::int64_t j = 0;
  for (; j + 16 <= dimension; j += 16) {
    const __m512 y = _mm512_sub_ps(_mm512_loadu_ps(row + j), _mm512_loadu_ps(centre + j));
    _mm512_storeu_ps(out + j, y);
    squares = _mm512_fmadd_ps(y, y, squares);
    largest = _mm512_max_ps(largest, _mm512_abs_ps(y));
  }
  const std::int64_t whole = j;
  for (; j < dimension; ++j) out[j] = row[j] - centre[j];
  std::fill(out + dimension, out + padded_depth(dimension), 0.0f);
  return finish_512(squares, largest, out, whole, dimension);
}

MOEX_AVX512 void round_512(const float* from, float scale, std::int64_t depth, std::int16_t* out) {
  const __m512 s = _mm512_set1_ps(scale);
  for (std::int64_t j = 0; j < depth; j += 16) {
    const __m512i values = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(from + j), s));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + j), _mm512_cvtsepi32_epi16(values));
  }
}

MOEX_AVX512 float score_bounds_512(const std::int32_t* products, const ScoreTerms& terms, std::int64_t count,
                                   float* lower, float* upper) {
  return score_bounds_any(products, terms, count, lower, upper);
}

constexpr ProductKernels kVnni = {
    InstructionSet::avx512_vnni, centre_half_512,  centre_float_512,    round_512,          products_vnni,
    some_products_vnni,          score_bounds_512, select_at_most_avx2, select_within_avx2, any_within_avx2,
    distance_floors_avx2,        add_halves_avx2};

// Without VNNI: two instructions for each of its one, so the blocks are written out for that target.
MOEX_AVX512 void products_avx512(const std::int16_t* const* rows, const std::int16_t* panels, std::int64_t panel_count,
                                 std::int64_t depth, std::int32_t* out, std::int64_t stride) {
  for (std::int64_t p = 0; p < panel_count; ++p) {
    const std::int16_t* panel = panels + p * depth * kPanelCentroids;
    __m512i sums[kKernelRows];
#pragma GCC unroll 12
    for (int r = 0; r < kKernelRows; ++r) sums[r] = _mm512_setzero_si512();
    for (std::int64_t j = 0; j < depth; j += 2) {
      const __m512i c = _mm512_loadu_si512(panel + j * kPanelCentroids);
#pragma GCC unroll 12
      for (int r = 0; r < kKernelRows; ++r) {
        sums[r] = Multiply512::add(sums[r], _mm512_set1_epi32(pair_at(rows[r] + j)), c);
      }
    }
#pragma GCC unroll 12
    for (int r = 0; r < kKernelRows; ++r) _mm512_storeu_si512(out + r * stride + p * kPanelCentroids, sums[r]);
  }
}

constexpr ProductKernels kAvx512 = {
    InstructionSet::avx512, centre_half_512,    centre_float_512,     round_512,
    products_avx512,        some_products_avx2, score_bounds_512,     select_at_most_avx2,
    select_within_avx2,     any_within_avx2,    distance_floors_avx2, add_halves_avx2};

#endif

std::atomic<int> chosen{-1};

}  // namespace

bool is_supported(InstructionSet set) {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  switch (set) {
    case InstructionSet::portable:
      return true;
    case InstructionSet::avx2:
      return avx2;
    case InstructionSet::avx512:
      return avx512;
    case InstructionSet::avx512_vnni:
      return avx512 && __builtin_cpu_supports("avx512vnni");
  }
#endif
  return set == InstructionSet::portable;
}

const char* name_of(InstructionSet set) {
  switch (set) {
    case InstructionSet::avx2:
      return "avx2";
    case InstructionSet::avx512:
      return "avx512";
    case InstructionSet::avx512_vnni:
      return "avx512-vnni";
    default:
      return "portable";
  }
}

const ProductKernels& kernels_for(InstructionSet set) {
  MOEX_ASSERT(is_supported(set), "the processor cannot run these kernels");
#if defined(__x86_64__)
  switch (set) {
    case InstructionSet::avx2:
      return kAvx2;
    case InstructionSet::avx512:
      return kAvx512;
    case InstructionSet::avx512_vnni:
      return kVnni;
    default:
      break;
  }
#endif
  return kPortable;
}

const ProductKernels& kernels() {
  const int wanted = chosen.load();
  if (wanted >= 0) return kernels_for(static_cast<InstructionSet>(wanted));
  static const ProductKernels& best = [&]() -> const ProductKernels& {
    for (const InstructionSet set : {InstructionSet::avx512_vnni, InstructionSet::avx512, InstructionSet::avx2}) {
      if (is_supported(set)) return kernels_for(set);
    }
    return kPortable;
  }();
  return best;
}

void choose_instruction_set(InstructionSet set) {
  MOEX_ASSERT(is_supported(set), "the processor cannot run these kernels");
  chosen.store(static_cast<int>(set));
}

}  // namespace moextract::cluster
