#include "model/mlp.h"

#include <ATen/ops/gelu.h>

#include "model/index_tensor.h"

namespace moextract::model {

DenseMlp::DenseMlp(at::Tensor fc1_weight, at::Tensor fc1_bias, at::Tensor fc2_weight, at::Tensor fc2_bias,
                   Precision precision)
    : first_(std::move(fc1_weight), std::move(fc1_bias), precision),
      second_(std::move(fc2_weight), std::move(fc2_bias), precision),
      precision_(precision) {}

at::Tensor DenseMlp::forward(const at::Tensor& x, MlpTrace* trace) const {
  if (packed_applies(x) && packed_applies(first_.weight())) {
    const PackedMlp& packed = packed_.get(
        [&] { return PackedMlp(first_.weight(), first_.bias(), second_.weight(), second_.bias(), precision_); });
    if (trace == nullptr) return packed.forward(x);
    trace->x = x;
    return trace->wants_h ? packed.forward(x, &trace->h, trace->rows) : packed.forward(x);
  }
  const at::Tensor h = at::gelu(first_(x));
  if (trace != nullptr) {
    trace->x = x;
    if (trace->wants_h) trace->h = trace->rows.empty() ? h : rows_of(h, index_tensor(trace->rows).to(h.device()));
  }
  return second_(h);
}

double DenseMlp::macs_per_token(std::span<const double>) const {
  return 2.0 * static_cast<double>(first_.weight().size(0)) * static_cast<double>(first_.weight().size(1));
}

double DenseMlp::active_neurons(std::span<const double>) const {
  return static_cast<double>(first_.weight().size(0));
}

}  // namespace moextract::model
