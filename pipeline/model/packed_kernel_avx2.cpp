// Packed products for AVX2 and FMA: 6 rows by one panel, 12 of the 16 registers are sums.
#include <immintrin.h>

#include "model/packed_kernel_loops.h"

namespace moextract::model {
namespace {

struct Vec256 {
  static constexpr int kWidth = 8;
  __m256 v;
  static Vec256 load(const float* from) { return {_mm256_loadu_ps(from)}; }
  void store(float* to) const { _mm256_storeu_ps(to, v); }
  static Vec256 all(float value) { return {_mm256_set1_ps(value)}; }
  static Vec256 fma(Vec256 a, Vec256 b, Vec256 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
  static Vec256 mul(Vec256 a, Vec256 b) { return {_mm256_mul_ps(a.v, b.v)}; }
  static Vec256 div(Vec256 a, Vec256 b) { return {_mm256_div_ps(a.v, b.v)}; }
  // The second operand is returned where one is not a number: NaN stays, as the first operand's limits are numbers.
  static Vec256 min(Vec256 a, Vec256 b) { return {_mm256_min_ps(b.v, a.v)}; }
  static Vec256 max(Vec256 a, Vec256 b) { return {_mm256_max_ps(b.v, a.v)}; }
};

}  // namespace

const PackedKernel kPackedAvx2 = &multiply<Vec256, 6, 1>;

}  // namespace moextract::model
