// A linear layer: LibTorch's where gradients are recorded, packed products for inference on a CPU.
#pragma once

#include <ATen/core/Tensor.h>

#include "model/lazy.h"
#include "model/packed_linear.h"

namespace moextract::model {

/// x W^T + b. Refers to its tensors; a packed copy is made at the first inference, so weights must not be changed in
/// place after that.
class Linear {
 public:
  Linear() = default;
  /// weight [out, in], bias [out] or undefined. `precision` is that of inference on a CPU.
  Linear(at::Tensor weight, at::Tensor bias, Precision precision = Precision::float32)
      : weight_(std::move(weight)), bias_(std::move(bias)), precision_(precision) {}
  /// x [..., in] -> [..., out].
  at::Tensor operator()(const at::Tensor& x) const;
  /// The packed copy; weights are float32 on the CPU.
  const PackedLinear& packed() const;

 private:
  at::Tensor weight_, bias_;
  Precision precision_ = Precision::float32;
  Lazy<PackedLinear> packed_;
};

}  // namespace moextract::model
