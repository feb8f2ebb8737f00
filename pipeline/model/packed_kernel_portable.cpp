// Packed products for any processor: the same numbers, one at a time.
#include "model/row_kernel_loops.h"

namespace moextract::model {
namespace {

/// Two 16-bit integers in place of a vector's lane.
struct ScalarPair {
  std::int32_t low = 0, high = 0, sum = 0;
  static ScalarPair zero() { return {}; }
  static ScalarPair load(const float* from) {
    ScalarPair value;
    __builtin_memcpy(&value.sum, from, sizeof(value.sum));
    return value;
  }
  void store(float* to) const { __builtin_memcpy(to, &sum, sizeof(sum)); }
  static ScalarPair load16(const std::int16_t* from) { return {from[0], from[1], 0}; }
  static ScalarPair all_pairs(const std::int16_t* from) { return load16(from); }
  static ScalarPair dot(ScalarPair sum, ScalarPair pair, ScalarPair w) {
    return {0, 0, sum.sum + (pair.low * w.low + pair.high * w.high)};
  }
};

struct Scalar {
  using Int = ScalarPair;
  static constexpr int kWidth = 1;
  float v;
  static Scalar load(const float* from) { return {*from}; }
  void store(float* to) const { *to = v; }
  static Scalar all(float value) { return {value}; }
  static Scalar from_int(ScalarPair a) { return {static_cast<float>(a.sum)}; }
  static Scalar fma(Scalar a, Scalar b, Scalar c) { return {__builtin_fmaf(a.v, b.v, c.v)}; }
  static Scalar add(Scalar a, Scalar b) { return {a.v + b.v}; }
  static Scalar sub(Scalar a, Scalar b) { return {a.v - b.v}; }
  static Scalar mul(Scalar a, Scalar b) { return {a.v * b.v}; }
  static Scalar div(Scalar a, Scalar b) { return {a.v / b.v}; }
  static Scalar min(Scalar a, Scalar b) { return {b.v < a.v ? b.v : a.v}; }
  static Scalar max(Scalar a, Scalar b) { return {b.v > a.v ? b.v : a.v}; }
  static Scalar abs(Scalar a) { return {__builtin_fabsf(a.v)}; }
  static Scalar add_to_exponent(Scalar a, Scalar n) {
    std::uint32_t value, shift;
    __builtin_memcpy(&value, &a.v, sizeof(value));
    __builtin_memcpy(&shift, &n.v, sizeof(shift));
    value += shift << 23;
    Scalar result;
    __builtin_memcpy(&result.v, &value, sizeof(value));
    return result;
  }
  void store16(std::int16_t* to) const {
    // What is not a number gives the least, as the processors' conversions do.
    const bool fits = v >= -32768.0f && v < 32768.0f;
    *to = fits ? static_cast<std::int16_t>(__builtin_lrintf(v)) : std::int16_t{-32768};
  }
};

}  // namespace

const PackedKernels kPortableKernels = kernels_of<Scalar, 2, 1, 2, 1>();

}  // namespace moextract::model
