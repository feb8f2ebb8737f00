// An MLP's weights laid out for inference on a CPU: y = W2 gelu(W1 x + b1) + b2 for rows anywhere in memory.
//
// The hidden values of a block of rows stay in the cache; nothing is gathered, scattered or sorted by copying.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "model/packed_linear.h"

namespace moextract::model {

class PackedMlp {
 public:
  /// fc1_weight [H, d], fc1_bias [H], fc2_weight [o, H], fc2_bias [o], float32 on the CPU.
  PackedMlp(const at::Tensor& fc1_weight, const at::Tensor& fc1_bias, const at::Tensor& fc2_weight,
            const at::Tensor& fc2_bias, Precision precision = Precision::float32);
  /// Rows `rows` of x [*, d] to the same rows of y [*, o]; hidden values to those of h [*, H] unless it is null. On the
  /// calling thread.
  void forward(const float* x, std::span<const std::int64_t> rows, float* y, float* h) const;
  /// x [..., d] -> [..., o]. `h`, if it is not null, becomes the hidden values [..., H], or, where `rows` names rows of
  /// x in ascending order, theirs, [rows, H]. Split over threads.
  at::Tensor forward(const at::Tensor& x, at::Tensor* h = nullptr, std::span<const std::int64_t> rows = {}) const;
  std::int64_t hidden() const { return first_.out(); }
  /// Rows whose hidden values stay in the cache together.
  std::int64_t block_rows() const;

 private:
  /// Rows row_of(0 .. n) of x to the same rows of y; hidden_of(row) is where hidden values are kept, or null.
  template <typename RowOf, typename HiddenOf>
  void run(const float* x, std::int64_t n, const RowOf& row_of, float* y, const HiddenOf& hidden_of) const;

  PackedLinear first_, second_;
};

}  // namespace moextract::model
