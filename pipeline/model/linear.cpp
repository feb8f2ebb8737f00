#include "model/linear.h"

#include <ATen/ops/linear.h>

namespace moextract::model {

at::Tensor Linear::operator()(const at::Tensor& x) const {
  if (!packed_applies(x) || !packed_applies(weight_)) return at::linear(x, weight_, bias_);
  return packed().forward(x);
}

const PackedLinear& Linear::packed() const {
  return packed_.get([&] { return PackedLinear(weight_, bias_, /*gelu=*/false, precision_); });
}

}  // namespace moextract::model
