#include "cluster/hdbscan_kernel.h"

#include <cmath>

#if defined(__x86_64__) && defined(__GNUC__)
#define MOEX_X86_KERNELS 1
#include <immintrin.h>
#endif

namespace moextract::cluster::hdbscan {
namespace {

// Marks the masks from values that lie in hits.t: the plain kernel's test, and that of AVX2.
template <bool kBoth>
bool mark(const TileJob& job, TileHits& hits) {
  std::uint64_t any = 0;
  for (int r = 0; r < kGroupRows; ++r) {
    std::uint64_t by_row = 0, by_column = 0;
    for (int c = 0; c < kPanelColumns; ++c) {
      const float t = hits.t[static_cast<std::size_t>(r * kPanelColumns + c)];
      const std::uint64_t bit = std::uint64_t{1} << c;
      if (kBoth) {
        if (t <= job.row_bounds[r] && job.column_bounds[c] <= job.row_limits[r]) by_row |= bit;
      } else {
        if (t <= job.row_bounds[r]) by_row |= bit;
        if (t <= job.column_bounds[c]) by_column |= bit;
      }
    }
    hits.by_row[static_cast<std::size_t>(r)] = by_row;
    hits.by_column[static_cast<std::size_t>(r)] = by_column;
    any |= by_row | by_column;
  }
  return any != 0;
}

template <bool kBoth>
bool plain(const TileJob& job, TileHits& hits) {
  for (int r = 0; r < kGroupRows; ++r) {
    std::array<float, kPanelColumns> sums = {};
    const float* row = job.rows[static_cast<std::size_t>(r)];
    for (std::int64_t k = 0; k < job.dimension; ++k) {
      const float* column = job.panel + k * kPanelColumns;
      for (int c = 0; c < kPanelColumns; ++c) sums[static_cast<std::size_t>(c)] += row[k] * column[c];
    }
    for (int c = 0; c < kPanelColumns; ++c) {
      hits.t[static_cast<std::size_t>(r * kPanelColumns + c)] =
          (job.column_norms[c] - 2 * sums[static_cast<std::size_t>(c)]) + job.row_norms[r];
    }
  }
  return mark<kBoth>(job, hits);
}

#ifdef MOEX_X86_KERNELS

// 24 accumulators, 3 vectors of the panel and a broadcast fit the 32 registers.
template <bool kBoth>
__attribute__((target("avx512f"))) bool avx512(const TileJob& job, TileHits& hits) {
  constexpr int kVectors = kPanelColumns / 16;
  __m512 sums[kGroupRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kGroupRows; ++r) {
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) sums[r][v] = _mm512_setzero_ps();
  }
  const float* rows[kGroupRows];
#pragma GCC unroll 8
  for (int r = 0; r < kGroupRows; ++r) rows[r] = job.rows[static_cast<std::size_t>(r)];
  const float* column = job.panel;
  const std::int64_t dimension = job.dimension;
  for (std::int64_t k = 0; k < dimension; ++k, column += kPanelColumns) {
    const __m512 c0 = _mm512_load_ps(column), c1 = _mm512_load_ps(column + 16), c2 = _mm512_load_ps(column + 32);
#pragma GCC unroll 8
    for (int r = 0; r < kGroupRows; ++r) {
      const __m512 value = _mm512_set1_ps(rows[r][k]);
      sums[r][0] = _mm512_fmadd_ps(value, c0, sums[r][0]);
      sums[r][1] = _mm512_fmadd_ps(value, c1, sums[r][1]);
      sums[r][2] = _mm512_fmadd_ps(value, c2, sums[r][2]);
    }
  }
  const __m512 two = _mm512_set1_ps(2);
  std::uint64_t any = 0;
#pragma GCC unroll 8
  for (int r = 0; r < kGroupRows; ++r) {
    const __m512 norm = _mm512_set1_ps(job.row_norms[r]), bound = _mm512_set1_ps(job.row_bounds[r]);
    std::uint64_t by_row = 0, by_column = 0;
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) {
      const __m512 t =
          _mm512_add_ps(_mm512_fnmadd_ps(two, sums[r][v], _mm512_load_ps(job.column_norms + 16 * v)), norm);
      sums[r][v] = t;
      const __m512 other = _mm512_loadu_ps(job.column_bounds + 16 * v);
      if (kBoth) {
        const __mmask16 within = _mm512_cmp_ps_mask(t, bound, _CMP_LE_OQ);
        by_row |= static_cast<std::uint64_t>(
                      _mm512_mask_cmp_ps_mask(within, other, _mm512_set1_ps(job.row_limits[r]), _CMP_LE_OQ))
                  << (16 * v);
      } else {
        by_row |= static_cast<std::uint64_t>(_mm512_cmp_ps_mask(t, bound, _CMP_LE_OQ)) << (16 * v);
        by_column |= static_cast<std::uint64_t>(_mm512_cmp_ps_mask(t, other, _CMP_LE_OQ)) << (16 * v);
      }
    }
    hits.by_row[static_cast<std::size_t>(r)] = by_row;
    hits.by_column[static_cast<std::size_t>(r)] = by_column;
    any |= by_row | by_column;
  }
  if (any == 0) return false;
#pragma GCC unroll 8
  for (int r = 0; r < kGroupRows; ++r) {
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) _mm512_store_ps(hits.t.data() + r * kPanelColumns + 16 * v, sums[r][v]);
  }
  return true;
}

// 4 rows by 3 vectors at a time: 12 accumulators, 3 vectors and a broadcast are the 16 registers.
template <bool kBoth>
__attribute__((target("avx2,fma"))) bool avx2(const TileJob& job, TileHits& hits) {
  const __m256 two = _mm256_set1_ps(2);
  std::uint64_t any = 0;
  for (int first = 0; first < kGroupRows; first += 4) {
    std::uint64_t by_row[4] = {}, by_column[4] = {};
    for (int left = 0; left < kPanelColumns; left += 24) {
      __m256 sums[4][3];
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r) {
#pragma GCC unroll 3
        for (int v = 0; v < 3; ++v) sums[r][v] = _mm256_setzero_ps();
      }
      const float* rows[4];
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r) rows[r] = job.rows[static_cast<std::size_t>(first + r)];
      const float* column = job.panel + left;
      const std::int64_t dimension = job.dimension;
      for (std::int64_t k = 0; k < dimension; ++k, column += kPanelColumns) {
        const __m256 c0 = _mm256_load_ps(column), c1 = _mm256_load_ps(column + 8), c2 = _mm256_load_ps(column + 16);
#pragma GCC unroll 4
        for (int r = 0; r < 4; ++r) {
          const __m256 value = _mm256_broadcast_ss(rows[r] + k);
          sums[r][0] = _mm256_fmadd_ps(value, c0, sums[r][0]);
          sums[r][1] = _mm256_fmadd_ps(value, c1, sums[r][1]);
          sums[r][2] = _mm256_fmadd_ps(value, c2, sums[r][2]);
        }
      }
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r) {
        const __m256 norm = _mm256_set1_ps(job.row_norms[first + r]);
        const __m256 bound = _mm256_set1_ps(job.row_bounds[first + r]);
#pragma GCC unroll 3
        for (int v = 0; v < 3; ++v) {
          const int at = left + 8 * v;
          const __m256 t =
              _mm256_add_ps(_mm256_fnmadd_ps(two, sums[r][v], _mm256_load_ps(job.column_norms + at)), norm);
          _mm256_store_ps(hits.t.data() + (first + r) * kPanelColumns + at, t);
          const __m256 other = _mm256_loadu_ps(job.column_bounds + at);
          __m256 within = _mm256_cmp_ps(t, bound, _CMP_LE_OQ);
          if (kBoth) {
            const __m256 limit = _mm256_set1_ps(job.row_limits[first + r]);
            within = _mm256_and_ps(within, _mm256_cmp_ps(other, limit, _CMP_LE_OQ));
          } else {
            by_column[r] |= static_cast<std::uint64_t>(
                                static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(t, other, _CMP_LE_OQ))))
                            << at;
          }
          by_row[r] |= static_cast<std::uint64_t>(static_cast<unsigned>(_mm256_movemask_ps(within))) << at;
        }
      }
    }
    for (int r = 0; r < 4; ++r) {
      hits.by_row[static_cast<std::size_t>(first + r)] = by_row[r];
      hits.by_column[static_cast<std::size_t>(first + r)] = by_column[r];
      any |= by_row[r] | by_column[r];
    }
  }
  return any != 0;
}

#endif

std::vector<Kernel> find_kernels() {
  std::vector<Kernel> found;
#ifdef MOEX_X86_KERNELS
  if (__builtin_cpu_supports("avx512f")) found.push_back({"avx512", avx512<false>, avx512<true>});
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    found.push_back({"avx2", avx2<false>, avx2<true>});
  }
#endif
  found.push_back({"plain", plain<false>, plain<true>});
  return found;
}

}  // namespace

const std::vector<Kernel>& kernels() {
  static const std::vector<Kernel> found = find_kernels();
  return found;
}

}  // namespace moextract::cluster::hdbscan
