// The kernels for AVX2: 6 rows by 2 vectors of 8 centroids are 12 accumulators of the 16 registers.
#include "cluster/product_kernel_sets.h"

#if defined(__x86_64__)
#include <immintrin.h>

namespace moextract::cluster {
namespace {

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

}  // namespace

const ProductKernels& avx2_kernels() {
  return kAvx2;
}

}  // namespace moextract::cluster
#endif
