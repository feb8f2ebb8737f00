#include "moe/router.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "model/device_tensors.h"

namespace moextract::moe {

at::Tensor route_by_cosine(const at::Tensor& x, const at::Tensor& keys) {
  return route_linear(x, keys, {});
}

at::Tensor first_largest(const at::Tensor& scores) {
  // argmax of ATen does not promise which of several equal maxima it names; the lowest index is the rule here.
  const std::int64_t n = scores.size(0), k = scores.size(1);
  if (model::by_tensors(scores)) {
    const at::Tensor number = at::arange(k, scores.options().dtype(at::kLong));
    const at::Tensor largest = scores == scores.amax({1}, /*keepdim=*/true);
    return at::where(largest, number, k).amin({1}).clamp_max(k - 1);  // a NaN is equal to nothing
  }
  at::Tensor best = at::empty({n}, at::kLong);
  const at::Tensor whole = scores.contiguous();
  const float* score = whole.const_data_ptr<float>();
  std::int64_t* to = best.data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < n; ++i, score += k) {
    std::int64_t chosen = 0;
    for (std::int64_t e = 1; e < k; ++e) chosen = score[e] > score[chosen] ? e : chosen;
    to[i] = chosen;
  }
  return best;
}

at::Tensor route_linear(const at::Tensor& x, const at::Tensor& keys, const at::Tensor& bias) {
  const at::NoGradGuard no_grad;
  return first_largest(at::linear(x, keys, bias));
}

at::Tensor route_packed(const at::Tensor& x, const model::PackedLinear& packed) {
  return first_largest(packed.forward(x));
}

at::Tensor unit_rows(const at::Tensor& rows) {
  return rows / rows.norm(2, {1}, /*keepdim=*/true).clamp_min(1e-12);
}

}  // namespace moextract::moe
