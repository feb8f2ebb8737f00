#include "model/linear.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>

#include "model/device_tensors.h"

namespace moextract::model {

bool rounds_products(const at::Tensor& x, Precision precision) {
  return precision == Precision::bfloat16 && !at::GradMode::is_enabled() && by_tensors(x);
}

at::Tensor Linear::operator()(const at::Tensor& x) const {
  if (packed_applies(x) && packed_applies(weight_)) return packed().forward(x);
  if (!rounds_products(x, precision_)) return at::linear(x, weight_, bias_);
  const at::Tensor& weight = rounded_.get([&] { return weight_.detach().to(at::kBFloat16); });
  const at::Tensor product = at::linear(x.to(at::kBFloat16), weight).to(at::kFloat);
  return bias_.defined() ? product.add(bias_) : product;  // the bias is not rounded
}

const PackedLinear& Linear::packed() const {
  return packed_.get([&] { return PackedLinear(weight_, bias_, /*gelu=*/false, precision_); });
}

}  // namespace moextract::model
