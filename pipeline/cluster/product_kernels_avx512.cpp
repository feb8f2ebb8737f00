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
  static const ProductKernels kernels = {InstructionSet::avx512_vnni,
                                         centre_half_512,
                                         centre_float_512,
                                         round_512,
                                         products_vnni,
                                         some_products_vnni,
                                         score_bounds_512,
                                         avx2_kernels().select_at_most,
                                         avx2_kernels().select_within,
                                         avx2_kernels().any_within,
                                         avx2_kernels().distance_floors,
                                         avx2_kernels().add_halves};
  return kernels;
}

const ProductKernels& avx512_kernels() {
  static const ProductKernels kernels = {InstructionSet::avx512,
                                         centre_half_512,
                                         centre_float_512,
                                         round_512,
                                         products_avx512,
                                         avx2_kernels().some_products,
                                         score_bounds_512,
                                         avx2_kernels().select_at_most,
                                         avx2_kernels().select_within,
                                         avx2_kernels().any_within,
                                         avx2_kernels().distance_floors,
                                         avx2_kernels().add_halves};
  return kernels;
}

}  // namespace moextract::cluster
#endif
