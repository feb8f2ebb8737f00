#include "moe/control_routing.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <utility>
#include <vector>

#include "core/hash.h"
#include "model/vit.h"

namespace moextract::moe {
namespace {

at::Tensor dense_hidden(const model::TensorMap& dense, const std::string& prefix, const at::Tensor& x) {
  return at::gelu(at::linear(x, dense.at(prefix + "fc1.weight"), dense.at(prefix + "fc1.bias")));
}

Choice one_each(const at::Tensor& expert) {
  return {expert.unsqueeze(1).contiguous(), at::ones({expert.size(0), 1}, expert.options().dtype(at::kFloat))};
}

}  // namespace

Chooser random_routing(std::uint64_t seed, std::int64_t layer, std::int64_t k) {
  RouterWeights router;
  router.keys = at::zeros({k, 1});
  router.random_seed = hash64("random routing", seed + static_cast<std::uint64_t>(layer));
  return [router](const at::Tensor& x) { return choose_experts(router, x); };
}

Chooser oracle_routing(std::int64_t layer, const model::TensorMap& dense, const Centroids& centroids,
                       const std::string& tap) {
  const RouterWeights nearest =
      nearest_router({.rows = centroids.rows, .map_weight = centroids.map_weight, .map_bias = centroids.map_bias});
  const std::string prefix = model::mlp_prefix(layer);
  return [nearest, prefix, tap, &dense](const at::Tensor& x) {
    const at::NoGradGuard no_grad;
    if (tap == "x" || tap == "z") return choose_experts(nearest, x);
    const at::Tensor h = dense_hidden(dense, prefix, x);
    if (tap == "h") return choose_experts(nearest, h);
    if (tap == "both") return choose_experts(nearest, at::cat({x, h}, 1));
    return choose_experts(nearest, at::linear(h, dense.at(prefix + "fc2.weight"), dense.at(prefix + "fc2.bias")));
  };
}

Chooser best_routing(std::int64_t layer, const model::TensorMap& dense, const model::TensorMap& experts,
                     std::int64_t k) {
  std::vector<ExpertWeights> own = load_expert_weights(layer, experts);
  own.resize(static_cast<std::size_t>(k));
  const std::string prefix = model::mlp_prefix(layer);
  return [own, prefix, &dense](const at::Tensor& x) {
    const at::NoGradGuard no_grad;
    const at::Tensor wanted =
        at::linear(dense_hidden(dense, prefix, x), dense.at(prefix + "fc2.weight"), dense.at(prefix + "fc2.bias"));
    std::vector<at::Tensor> errors;
    for (const ExpertWeights& e : own) {
      const at::Tensor h = at::gelu(at::linear(x, e.fc1_weight, e.fc1_bias));
      errors.push_back((at::linear(h, e.fc2_weight, e.fc2_bias) - wanted).square().sum(1));
    }
    return one_each(at::stack(errors, 1).argmin(1));
  };
}

}  // namespace moextract::moe
