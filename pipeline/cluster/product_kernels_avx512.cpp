// The kernels for AVX-512, with VNNI and without: 12 rows by 2 panels are 24 accumulators of the 32 registers.
#include "cluster/product_kernel_sets.h"

#if defined(__x86_64__)
#include <immintrin.h>

// GCC 12 takes the undefined operands of its own AVX-512 intrinsics for uninitialised ones.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

namespace moextract::cluster {
namespace {

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

// The sums of the lanes of four vectors.
MOEX_VNNI inline __attribute__((always_inline)) __m128i sums_of_four(__m512i a, __m512i b, __m512i c, __m512i d) {
  const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
  const __m512i all = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
  const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
  return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

// Products of a row and `count` centroids, 1 to 4: the row is loaded once, and each sum is a chain of its own.
template <class Multiply, int count>
MOEX_VNNI inline __attribute__((always_inline)) void few_products_512(const std::int16_t* row,
                                                                      const std::int16_t* centroids,
                                                                      const std::int32_t* ids, std::int64_t depth,
                                                                      std::int32_t* out) {
  const std::int16_t* c[count];
  for (int i = 0; i < count; ++i) c[i] = centroids + ids[i] * depth;
  __m512i sums[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
  for (std::int64_t j = 0; j < depth; j += 32) {
    const __m512i x = _mm512_loadu_si512(row + j);
#pragma GCC unroll 4
    for (int i = 0; i < count; ++i) sums[i] = Multiply::add(sums[i], x, _mm512_loadu_si512(c[i] + j));
  }
  alignas(16) std::int32_t all[4];
  _mm_store_si128(reinterpret_cast<__m128i*>(all), sums_of_four(sums[0], sums[1], sums[2], sums[3]));
  for (int i = 0; i < count; ++i) out[i] = all[i];
}

template <class Multiply>
MOEX_VNNI inline __attribute__((always_inline)) void one_product_512(const std::int16_t* row, const std::int16_t* c,
                                                                     std::int64_t depth, std::int32_t* out) {
  __m512i sums[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
  std::int64_t j = 0;
  for (; j + 128 <= depth; j += 128) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      sums[i] = Multiply::add(sums[i], _mm512_loadu_si512(row + j + 32 * i), _mm512_loadu_si512(c + j + 32 * i));
    }
  }
  for (; j < depth; j += 32) sums[0] = Multiply::add(sums[0], _mm512_loadu_si512(row + j), _mm512_loadu_si512(c + j));
  *out =
      _mm512_reduce_add_epi32(_mm512_add_epi32(_mm512_add_epi32(sums[0], sums[1]), _mm512_add_epi32(sums[2], sums[3])));
}

template <class Multiply>
MOEX_VNNI inline __attribute__((always_inline)) void some_products_512(const std::int16_t* row,
                                                                       const std::int16_t* centroids,
                                                                       const std::int32_t* ids, std::int64_t count,
                                                                       std::int64_t depth, std::int32_t* out) {
  for (; count >= 4; count -= 4, ids += 4, out += 4) few_products_512<Multiply, 4>(row, centroids, ids, depth, out);
  if (count == 3) few_products_512<Multiply, 3>(row, centroids, ids, depth, out);
  if (count == 2) few_products_512<Multiply, 2>(row, centroids, ids, depth, out);
  if (count == 1) one_product_512<Multiply>(row, centroids + ids[0] * depth, depth, out);
}

MOEX_VNNI void products_vnni(const std::int16_t* const* rows, const std::int16_t* panels, std::int64_t panel_count,
                             std::int64_t depth, std::int32_t* out, std::int64_t stride) {
  all_blocks_512<MultiplyVnni>(rows, panels, panel_count, depth, out, stride);
}
MOEX_VNNI void some_products_vnni(const std::int16_t* row, const std::int16_t* centroids, const std::int32_t* ids,
                                  std::int64_t count, std::int64_t depth, std::int32_t* out) {
  some_products_512<MultiplyVnni>(row, centroids, ids, count, depth, out);
}

MOEX_AVX512 std::int64_t select_at_most_512(const float* lower, std::int64_t count, float limit, std::int32_t* ids) {
  const __m512 limits = _mm512_set1_ps(limit);
  std::int64_t found = 0;
  for (std::int64_t i = 0; i < count; i += 16) {
    std::uint32_t mask = _mm512_cmp_ps_mask(_mm512_loadu_ps(lower + i), limits, _CMP_LE_OQ);
    for (; mask != 0; mask &= mask - 1) ids[found++] = static_cast<std::int32_t>(i + __builtin_ctz(mask));
  }
  return found;
}

// 64 columns at a time: two lines of each row, and 8 sums in registers while the rows pass.
MOEX_AVX512 void add_halves_512(const std::uint16_t* const* rows, const signed char* signs, std::int64_t count,
                                std::int64_t dimension, std::uint64_t* sums) {
  const __m512 scale = _mm512_set1_ps(0x1.0p24f);
  std::int64_t j = 0;
  for (; j + 64 <= dimension; j += 64) {
    __m512i sum[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) sum[i] = _mm512_loadu_si512(sums + j + 8 * i);
    for (std::int64_t r = 0; r < count; ++r) {
      // Exact: a float16 is a whole number of 2^-24. The sign goes in before the conversion.
      const __m512 factor = signs[r] < 0 ? _mm512_sub_ps(_mm512_setzero_ps(), scale) : scale;
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[r] + j + 16 * i));
        const __m512i fixed = _mm512_cvttps_epi32(_mm512_mul_ps(_mm512_cvtph_ps(bits), factor));
        sum[2 * i] = _mm512_add_epi64(sum[2 * i], _mm512_cvtepi32_epi64(_mm512_castsi512_si256(fixed)));
        sum[2 * i + 1] = _mm512_add_epi64(sum[2 * i + 1], _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(fixed, 1)));
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) _mm512_storeu_si512(sums + j + 8 * i, sum[i]);
  }
  if (j < dimension) add_halves_from(rows, signs, count, j, dimension, sums);
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

// Of the 32 bounds from `i` on, or 16 where no more are left: a bit for each that the reach covers.
MOEX_AVX512 inline std::uint32_t within_512(const std::uint16_t* bounds, const std::uint16_t* drifts, __m512i reaches,
                                            std::int64_t left) {
  const __mmask32 there = left >= 32 ? 0xffffffffu : 0xffffu;
  const __m512i limit = _mm512_adds_epu16(reaches, _mm512_maskz_loadu_epi16(there, drifts));
  return _mm512_mask_cmple_epu16_mask(there, _mm512_maskz_loadu_epi16(there, bounds), limit);
}

MOEX_AVX512 std::int64_t select_within_512(const std::uint16_t* bounds, const std::uint16_t* drifts,
                                           std::uint16_t reach, std::int64_t count, std::int32_t* ids) {
  const __m512i reaches = _mm512_set1_epi16(static_cast<short>(reach));
  std::int64_t found = 0;
  for (std::int64_t i = 0; i < count; i += 32) {
    for (std::uint32_t mask = within_512(bounds + i, drifts + i, reaches, count - i); mask != 0; mask &= mask - 1) {
      ids[found++] = static_cast<std::int32_t>(i + __builtin_ctz(mask));
    }
  }
  return found;
}

MOEX_AVX512 bool any_within_512(const std::uint16_t* bounds, const std::uint16_t* drifts, std::uint16_t reach,
                                std::int64_t count) {
  const __m512i reaches = _mm512_set1_epi16(static_cast<short>(reach));
  for (std::int64_t i = 0; i < count; i += 32) {
    if (within_512(bounds + i, drifts + i, reaches, count - i) != 0) return true;
  }
  return false;
}

MOEX_AVX512 void distance_floors_512(const float* lower, float squares, float scale, const std::uint16_t* drifts,
                                     std::int64_t count, std::uint16_t* out) {
  const __m512 add = _mm512_set1_ps(squares), factor = _mm512_set1_ps(scale), top = _mm512_set1_ps(65535.0f);
  const __m512i one = _mm512_set1_epi32(1), most = _mm512_set1_epi32(65534), zero = _mm512_setzero_si512();
  for (std::int64_t i = 0; i < count; i += 16) {
    const __m512 square = _mm512_max_ps(_mm512_setzero_ps(), _mm512_add_ps(add, _mm512_loadu_ps(lower + i)));
    const __m512 distance = _mm512_min_ps(_mm512_mul_ps(_mm512_sqrt_ps(square), factor), top);
    const __m512i floored = _mm512_max_epi32(zero, _mm512_sub_epi32(_mm512_cvttps_epi32(distance), one));
    const __m512i drift = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(drifts + i)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i),
                        _mm512_cvtepi32_epi16(_mm512_min_epi32(most, _mm512_add_epi32(floored, drift))));
  }
}

MOEX_AVX512 float score_bounds_512(const std::int32_t* products, const ScoreTerms& terms, std::int64_t count,
                                   float* lower, float* upper) {
  return score_bounds_any(products, terms, count, lower, upper);
}

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

}  // namespace

const ProductKernels& avx512_vnni_kernels() {
  static const ProductKernels kernels = {
      InstructionSet::avx512_vnni, centre_half_512,  centre_float_512,   round_512,         products_vnni,
      some_products_vnni,          score_bounds_512, select_at_most_512, select_within_512, any_within_512,
      distance_floors_512,         add_halves_512};
  return kernels;
}

const ProductKernels& avx512_kernels() {
  static const ProductKernels kernels = {
      InstructionSet::avx512,       centre_half_512,  centre_float_512,   round_512,         products_avx512,
      avx2_kernels().some_products, score_bounds_512, select_at_most_512, select_within_512, any_within_512,
      distance_floors_512,          add_halves_512};
  return kernels;
}

}  // namespace moextract::cluster
#endif
