// The vector type of both AVX-512 sets; for packed_kernel_avx512*.cpp alone.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace moextract::model {
namespace {

/// Vnni: one instruction multiplies the pairs and adds.
template <bool Vnni>
struct Int512 {
  __m512i v;
  static Int512 zero() { return {_mm512_setzero_si512()}; }
  static Int512 load(const float* from) { return {_mm512_castps_si512(_mm512_loadu_ps(from))}; }
  void store(float* to) const { _mm512_storeu_ps(to, _mm512_castsi512_ps(v)); }
  static Int512 load16(const std::int16_t* from) { return {_mm512_loadu_si512(from)}; }
  static Int512 all_pairs(const std::int16_t* from) {
    std::int32_t pair;
    __builtin_memcpy(&pair, from, sizeof(pair));
    return {_mm512_set1_epi32(pair)};
  }
  static Int512 dot(Int512 sum, Int512 pair, Int512 w) {
#if defined(__AVX512VNNI__)
    if constexpr (Vnni) {
      // Not the intrinsic: GCC 12 copies the sum before and after each of them, and the loop runs out of registers.
      __asm__("vpdpwssd %2, %1, %0" : "+v"(sum.v) : "v"(pair.v), "v"(w.v));
      return sum;
    }
#endif
    return {_mm512_add_epi32(sum.v, _mm512_madd_epi16(pair.v, w.v))};
  }
};

template <bool Vnni>
struct Vec512 {
  using Int = Int512<Vnni>;
  static constexpr int kWidth = 16;
  __m512 v;
  static Vec512 load(const float* from) { return {_mm512_loadu_ps(from)}; }
  void store(float* to) const { _mm512_storeu_ps(to, v); }
  static Vec512 all(float value) { return {_mm512_set1_ps(value)}; }
  static Vec512 from_int(Int a) { return {_mm512_cvtepi32_ps(a.v)}; }
  static Vec512 fma(Vec512 a, Vec512 b, Vec512 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  static Vec512 add(Vec512 a, Vec512 b) { return {_mm512_add_ps(a.v, b.v)}; }
  static Vec512 sub(Vec512 a, Vec512 b) { return {_mm512_sub_ps(a.v, b.v)}; }
  static Vec512 mul(Vec512 a, Vec512 b) { return {_mm512_mul_ps(a.v, b.v)}; }
  static Vec512 div(Vec512 a, Vec512 b) { return {_mm512_div_ps(a.v, b.v)}; }
  // The second operand is returned where one is not a number: NaN stays, as the first operand's limits are numbers.
  static Vec512 min(Vec512 a, Vec512 b) { return {_mm512_min_ps(b.v, a.v)}; }
  static Vec512 max(Vec512 a, Vec512 b) { return {_mm512_max_ps(b.v, a.v)}; }
  static Vec512 abs(Vec512 a) { return {_mm512_abs_ps(a.v)}; }
  static Vec512 add_to_exponent(Vec512 a, Vec512 n) {
    return {_mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_castps_si512(a.v), _mm512_slli_epi32(_mm512_castps_si512(n.v), 23)))};
  }
  void store16(std::int16_t* to) const {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(v)));
  }
};

}  // namespace
}  // namespace moextract::model
