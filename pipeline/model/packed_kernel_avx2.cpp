// Packed products for AVX2 and FMA: 6 rows by one panel, 12 of the 16 registers are sums; 5 rows for integers, whose
// products need a register of their own.
#include <immintrin.h>

#include "model/row_kernel_loops.h"

namespace moextract::model {
namespace {

struct Int256 {
  __m256i v;
  static Int256 zero() { return {_mm256_setzero_si256()}; }
  static Int256 load(const float* from) { return {_mm256_castps_si256(_mm256_loadu_ps(from))}; }
  void store(float* to) const { _mm256_storeu_ps(to, _mm256_castsi256_ps(v)); }
  static Int256 load16(const std::int16_t* from) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))};
  }
  static Int256 all_pairs(const std::int16_t* from) {
    std::int32_t pair;
    __builtin_memcpy(&pair, from, sizeof(pair));
    return {_mm256_set1_epi32(pair)};
  }
  static Int256 dot(Int256 sum, Int256 pair, Int256 w) {
    return {_mm256_add_epi32(sum.v, _mm256_madd_epi16(pair.v, w.v))};
  }
};

struct Vec256 {
  using Int = Int256;
  static constexpr int kWidth = 8;
  __m256 v;
  static Vec256 load(const float* from) { return {_mm256_loadu_ps(from)}; }
  void store(float* to) const { _mm256_storeu_ps(to, v); }
  static Vec256 all(float value) { return {_mm256_set1_ps(value)}; }
  static Vec256 from_int(Int256 a) { return {_mm256_cvtepi32_ps(a.v)}; }
  static Vec256 fma(Vec256 a, Vec256 b, Vec256 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
  static Vec256 add(Vec256 a, Vec256 b) { return {_mm256_add_ps(a.v, b.v)}; }
  static Vec256 sub(Vec256 a, Vec256 b) { return {_mm256_sub_ps(a.v, b.v)}; }
  static Vec256 mul(Vec256 a, Vec256 b) { return {_mm256_mul_ps(a.v, b.v)}; }
  static Vec256 div(Vec256 a, Vec256 b) { return {_mm256_div_ps(a.v, b.v)}; }
  // The second operand is returned where one is not a number: NaN stays, as the first operand's limits are numbers.
  static Vec256 min(Vec256 a, Vec256 b) { return {_mm256_min_ps(b.v, a.v)}; }
  static Vec256 max(Vec256 a, Vec256 b) { return {_mm256_max_ps(b.v, a.v)}; }
  static Vec256 abs(Vec256 a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)}; }
  static Vec256 add_to_exponent(Vec256 a, Vec256 n) {
    return {_mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_castps_si256(a.v), _mm256_slli_epi32(_mm256_castps_si256(n.v), 23)))};
  }
  void store16(std::int16_t* to) const {
    const __m256i wide = _mm256_cvtps_epi32(v);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                     _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1)));
  }
};

}  // namespace

const PackedKernels kAvx2Kernels = kernels_of<Vec256, 6, 1, 5, 1>();

}  // namespace moextract::model
