// A linear layer laid out for inference on a CPU: y = x W^T + b for rows anywhere in memory.
//
// A row's result does not depend on the other rows (see packed_kernel.h), so neither on the batch nor on the threads.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "model/instruction_set.h"
#include "model/precision.h"

namespace moextract::model {

/// Rows that products take at a time; a multiple of what the kernels hold in registers.
inline constexpr std::int64_t kMostRows = 180;

/// W [out, in] and b [out] as panels.
class PackedLinear {
 public:
  PackedLinear() = default;
  /// Float32 on the CPU; `bias` may be undefined.
  PackedLinear(const at::Tensor& weight, const at::Tensor& bias, bool gelu, Precision precision = Precision::float32);
  /// The same from rows W[o][0 .. in), o < out; bias [out] or null. Room is kept from one call to the next.
  void pack(const float* const* rows, std::int64_t out, std::int64_t in, const float* bias, Precision precision);
  /// The same, without a bias, from the transposed matrix: W[o][i] = columns[i * row + o]. The same bits.
  void pack_transposed(const float* columns, std::int64_t row, std::int64_t out, std::int64_t in, Precision precision);
  std::int64_t in() const { return in_; }
  std::int64_t out() const { return out_; }
  /// y[i][0..out) from x[i][0..in) for i < n, n <= kMostRows. With `pad`, y[i] has room for `padded_out()` values, and
  /// all are written. The weights of `after`, if it is given, are asked for before the next product needs them.
  void multiply(const float* const* x, std::int64_t n, float* const* y, bool pad,
                const PackedLinear* after = nullptr) const;
  /// Rows of x, `x_row` apart, to rows of y, `y_row` apart, for n of any size; split over threads (see splitting.h).
  void forward(const float* x, std::int64_t x_row, std::int64_t n, float* y, std::int64_t y_row) const;
  /// x [..., in] -> [..., out], float32 on the CPU.
  at::Tensor forward(const at::Tensor& x) const;
  std::int64_t padded_out() const { return static_cast<std::int64_t>(bias_.size()); }

 private:
  const void* panels() const {
    return precision_ == Precision::int16 ? static_cast<const void*>(panels16_.data()) : panels_.data();
  }
  void make_room(std::int64_t out, std::int64_t in, Precision precision);

  std::vector<float> panels_;           // float32 and bfloat16
  std::vector<std::int16_t> panels16_;  // int16
  std::vector<float> step_, bias_;
  std::int64_t in_ = 0, out_ = 0;
  bool gelu_ = false;
  Precision precision_ = Precision::float32;
};

/// The shape of x with another last dimension.
std::vector<std::int64_t> shape_with(const at::Tensor& x, std::int64_t last);

/// May the packed form stand in: nothing records gradients, and x is float32 on the CPU, outside of a scope that asks
/// for LibTorch's operators (device.h)?
bool packed_applies(const at::Tensor& x);

}  // namespace moextract::model
