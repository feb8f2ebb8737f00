// An MLP's weights laid out for inference on a CPU: y = W2 gelu(W1 x + b1) + b2 for rows anywhere in memory.
//
// The hidden values of a block of rows stay in the cache; nothing is gathered, scattered or sorted by copying. A row's
// result does not depend on the other rows (see packed_kernel.h), so neither on the batch nor on the threads.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

namespace moextract::model {

/// Instruction sets of packed products; the results are the same bits.
enum class PackedSet { portable, avx2, avx512 };
bool is_supported(PackedSet set);
/// For tests and measurements. The best supported set is taken otherwise.
void choose_packed_set(PackedSet set);

/// W [out, in] and b [out] as panels.
class PackedLinear {
 public:
  PackedLinear() = default;
  /// Float32 on the CPU; `bias` may be undefined.
  PackedLinear(const at::Tensor& weight, const at::Tensor& bias, bool gelu);
  std::int64_t in() const { return in_; }
  std::int64_t out() const { return out_; }
  /// y[i][0..out) from x[i][0..in). With `pad`, y[i] has room for `padded_out()` values, and all are written.
  void multiply(const float* const* x, std::int64_t n, float* const* y, bool pad) const;
  /// x [..., in] -> [..., out], float32 on the CPU.
  at::Tensor forward(const at::Tensor& x) const;
  std::int64_t padded_out() const { return bias_.numel(); }

 private:
  at::Tensor panels_, bias_;
  std::int64_t in_ = 0, out_ = 0;
  bool gelu_ = false;
};

class PackedMlp {
 public:
  /// fc1_weight [H, d], fc1_bias [H], fc2_weight [o, H], fc2_bias [o], float32 on the CPU.
  PackedMlp(const at::Tensor& fc1_weight, const at::Tensor& fc1_bias, const at::Tensor& fc2_weight,
            const at::Tensor& fc2_bias);
  /// Rows `rows` of x [*, d] to the same rows of y [*, o]; hidden values to those of h [*, H] unless it is null.
  void forward(const float* x, std::span<const std::int64_t> rows, float* y, float* h) const;
  /// x [..., d] -> [..., o]; `h`, if it is not null, becomes the hidden values [..., H].
  at::Tensor forward(const at::Tensor& x, at::Tensor* h) const;

 private:
  template <typename RowOf>
  void run(const float* x, std::int64_t n, RowOf row_of, float* y, float* h) const;

  PackedLinear first_, second_;
};

/// May the packed form stand in: nothing records gradients, and x is float32 on the CPU?
bool packed_applies(const at::Tensor& x);

}  // namespace moextract::model
