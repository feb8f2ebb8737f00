// Packed products for AVX-512F: 12 rows by two panels, 24 of the 32 registers are sums.
#include <immintrin.h>

#include "model/packed_kernel_loops.h"

// GCC 12 takes the undefined operands of its own AVX-512 intrinsics for uninitialised ones.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

namespace moextract::model {
namespace {

struct Vec512 {
  static constexpr int kWidth = 16;
  __m512 v;
  static Vec512 load(const float* from) { return {_mm512_loadu_ps(from)}; }
  void store(float* to) const { _mm512_storeu_ps(to, v); }
  static Vec512 all(float value) { return {_mm512_set1_ps(value)}; }
  static Vec512 fma(Vec512 a, Vec512 b, Vec512 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  static Vec512 mul(Vec512 a, Vec512 b) { return {_mm512_mul_ps(a.v, b.v)}; }
  static Vec512 div(Vec512 a, Vec512 b) { return {_mm512_div_ps(a.v, b.v)}; }
  // The second operand is returned where one is not a number: NaN stays, as the first operand's limits are numbers.
  static Vec512 min(Vec512 a, Vec512 b) { return {_mm512_min_ps(b.v, a.v)}; }
  static Vec512 max(Vec512 a, Vec512 b) { return {_mm512_max_ps(b.v, a.v)}; }
};

}  // namespace

const PackedKernel kPackedAvx512 = &multiply<Vec512, 12, 2>;

}  // namespace moextract::model
