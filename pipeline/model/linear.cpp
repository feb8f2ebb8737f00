#include "model/linear.h"

#include <ATen/ops/linear.h>

namespace moextract::model {

at::Tensor Linear::operator()(const at::Tensor& x) const {
  if (!packed_applies(x) || weight_.scalar_type() != at::kFloat) return at::linear(x, weight_, bias_);
  return packed_.get([&] { return PackedLinear(weight_, bias_, /*gelu=*/false); }).forward(x);
}

}  // namespace moextract::model
