// A linear layer: packed products for inference on the CPU, LibTorch's where gradients are recorded and on other
// devices.
#pragma once

#include <ATen/core/Tensor.h>

#include "model/lazy.h"
#include "model/packed_linear.h"

namespace moextract::model {

/// Whether products with `x` are taken of numbers rounded to bfloat16, by LibTorch's operators: without gradients, on a
/// device (device_tensors.h).
bool rounds_products(const at::Tensor& x, Precision precision);

/// x W^T + b. Refers to its tensors; a packed or rounded copy is made at the first inference, so weights must not be
/// changed in place after that.
class Linear {
 public:
  Linear() = default;
  /// weight [out, in], bias [out] or undefined. `precision` is that of inference. On a device bfloat16 rounds the
  /// product, too; int16 is of the CPU's packed products alone, and float32 elsewhere.
  Linear(at::Tensor weight, at::Tensor bias, Precision precision = Precision::float32)
      : weight_(std::move(weight)), bias_(std::move(bias)), precision_(precision) {}
  /// x [..., in] -> [..., out], of x's type.
  at::Tensor operator()(const at::Tensor& x) const;
  /// The packed copy; weights are float32 on the CPU.
  const PackedLinear& packed() const;
  const at::Tensor& weight() const { return weight_; }
  const at::Tensor& bias() const { return bias_; }

 private:
  at::Tensor weight_, bias_;
  Precision precision_ = Precision::float32;
  Lazy<PackedLinear> packed_;
  Lazy<at::Tensor> rounded_;  // the weight in bfloat16
};

}  // namespace moextract::model
