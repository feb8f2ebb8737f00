// Packed products for any processor: the same numbers, one at a time.
#include "model/packed_kernel_loops.h"

namespace moextract::model {
namespace {

struct Scalar {
  static constexpr int kWidth = 1;
  float v;
  static Scalar load(const float* from) { return {*from}; }
  void store(float* to) const { *to = v; }
  static Scalar all(float value) { return {value}; }
  static Scalar fma(Scalar a, Scalar b, Scalar c) { return {__builtin_fmaf(a.v, b.v, c.v)}; }
  static Scalar mul(Scalar a, Scalar b) { return {a.v * b.v}; }
  static Scalar div(Scalar a, Scalar b) { return {a.v / b.v}; }
  static Scalar min(Scalar a, Scalar b) { return {b.v < a.v ? b.v : a.v}; }
  static Scalar max(Scalar a, Scalar b) { return {b.v > a.v ? b.v : a.v}; }
};

}  // namespace

const PackedKernel kPackedPortable = &multiply<Scalar, 2, 1>;

}  // namespace moextract::model
