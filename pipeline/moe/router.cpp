#include "moe/router.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

namespace moextract::moe {

at::Tensor route_by_cosine(const at::Tensor& x, const at::Tensor& keys) {
  return route_linear(x, keys, {});
}

at::Tensor route_linear(const at::Tensor& x, const at::Tensor& keys, const at::Tensor& bias) {
  const at::NoGradGuard no_grad;
  const at::Tensor scores = at::linear(x, keys, bias).contiguous();
  // argmax of ATen does not promise which of several equal maxima it names; the lowest index is the rule here.
  const std::int64_t n = scores.size(0), k = scores.size(1);
  at::Tensor expert = at::empty({n}, at::kLong);
  const float* score = scores.const_data_ptr<float>();
  std::int64_t* out = expert.data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < n; ++i) {
    std::int64_t best = 0;
    for (std::int64_t c = 1; c < k; ++c) {
      if (score[i * k + c] > score[i * k + best]) best = c;
    }
    out[i] = best;
  }
  return expert;
}

at::Tensor route_packed(const at::Tensor& x, const model::PackedLinear& packed) {
  const at::Tensor scores = packed.forward(x);
  const std::int64_t n = x.size(0), k = packed.out();
  at::Tensor best = at::empty({n}, at::kLong);
  const float* score = scores.const_data_ptr<float>();
  std::int64_t* to = best.data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < n; ++i, score += k) {
    std::int64_t chosen = 0;
    for (std::int64_t e = 1; e < k; ++e) chosen = score[e] > score[chosen] ? e : chosen;
    to[i] = chosen;
  }
  return best;
}

at::Tensor unit_rows(const at::Tensor& rows) {
  return rows / rows.norm(2, {1}, /*keepdim=*/true).clamp_min(1e-12);
}

}  // namespace moextract::moe
