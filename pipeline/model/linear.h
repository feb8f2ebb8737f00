// A linear layer: LibTorch's where gradients are recorded, packed products for inference on a CPU.
#pragma once

#include <ATen/core/Tensor.h>

#include "model/lazy.h"
#include "model/packed_mlp.h"

namespace moextract::model {

/// x W^T + b. Refers to its tensors; a packed copy is made at the first inference, so weights must not be changed in
/// place after that.
class Linear {
 public:
  Linear() = default;
  /// weight [out, in], bias [out] or undefined.
  Linear(at::Tensor weight, at::Tensor bias) : weight_(std::move(weight)), bias_(std::move(bias)) {}
  /// x [..., in] -> [..., out].
  at::Tensor operator()(const at::Tensor& x) const;

 private:
  at::Tensor weight_, bias_;
  Lazy<PackedLinear> packed_;
};

}  // namespace moextract::model
