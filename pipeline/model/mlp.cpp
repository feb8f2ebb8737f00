#include "model/mlp.h"

#include <ATen/ops/gelu.h>
#include <ATen/ops/linear.h>

namespace moextract::model {

DenseMlp::DenseMlp(at::Tensor fc1_weight, at::Tensor fc1_bias, at::Tensor fc2_weight, at::Tensor fc2_bias,
                   Precision precision)
    : fc1_weight_(std::move(fc1_weight)),
      fc1_bias_(std::move(fc1_bias)),
      fc2_weight_(std::move(fc2_weight)),
      fc2_bias_(std::move(fc2_bias)),
      precision_(precision) {}

at::Tensor DenseMlp::forward(const at::Tensor& x, MlpTrace* trace) const {
  if (packed_applies(x) && packed_applies(fc1_weight_)) {
    const PackedMlp& packed =
        packed_.get([&] { return PackedMlp(fc1_weight_, fc1_bias_, fc2_weight_, fc2_bias_, precision_); });
    if (trace == nullptr) return packed.forward(x, nullptr);
    trace->x = x;
    return packed.forward(x, &trace->h);
  }
  const at::Tensor h = at::gelu(at::linear(x, fc1_weight_, fc1_bias_));
  if (trace != nullptr) {
    trace->x = x;
    trace->h = h;
  }
  return at::linear(h, fc2_weight_, fc2_bias_);
}

double DenseMlp::macs_per_token(std::span<const double>) const {
  return 2.0 * static_cast<double>(fc1_weight_.size(0)) * static_cast<double>(fc1_weight_.size(1));
}

double DenseMlp::active_neurons(std::span<const double>) const {
  return static_cast<double>(fc1_weight_.size(0));
}

}  // namespace moextract::model
