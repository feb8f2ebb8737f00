#include "moe/mixture_mlp.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "core/error.h"
#include "model/vit.h"
#include "moe/token_groups.h"

namespace moextract::moe {

MixtureMlp::MixtureMlp(std::int64_t layer, const model::TensorMap& tensors, Chooser chooser)
    : router_(get_router(model::mlp_prefix(layer), tensors)),
      chooser_(std::move(chooser)),
      counts_router_(!chooser_),
      experts_(load_expert_weights(layer, tensors)) {
  if (const auto reserved = tensors.find(model::mlp_prefix(layer) + "experts.prefix"); reserved != tensors.end())
    prefix_tokens_ = reserved->second.select(0, 1).item<std::int64_t>();
  if (!chooser_) chooser_ = [this](const at::Tensor& x) { return choose_experts(router_, x); };
}

at::Tensor MixtureMlp::forward(const at::Tensor& x, model::MlpTrace* trace) const {
  const std::int64_t images = x.size(0), per_image = x.size(1), d = x.size(2);
  const std::int64_t prefix = std::min(prefix_tokens_, per_image);
  const at::Tensor tokens = x.reshape({-1, d}).contiguous();
  Choice choice;
  {
    const at::NoGradGuard no_grad;
    if (prefix == 0) {
      choice = chooser_(tokens.detach());
    } else if (prefix < per_image) {
      choice = chooser_(x.detach().narrow(1, prefix, per_image - prefix).reshape({-1, d}));
    }
    if (prefix > 0) {
      const std::int64_t m = choice.expert.defined() ? choice.expert.size(1) : 1;
      at::Tensor expert = at::full({images, per_image, m}, -1, tokens.options().dtype(at::kLong)),
                 gate = at::zeros({images, per_image, m}, tokens.options());
      expert.narrow(1, 0, prefix).select(2, 0).fill_(experts() - 1);
      gate.narrow(1, 0, prefix).select(2, 0).fill_(1);
      if (choice.expert.defined()) {
        expert.narrow(1, prefix, per_image - prefix).copy_(choice.expert.view({images, per_image - prefix, m}));
        gate.narrow(1, prefix, per_image - prefix).copy_(choice.gate.view({images, per_image - prefix, m}));
      }
      choice = {expert.view({-1, m}), gate.view({-1, m})};
    }
  }
  const std::int64_t m = choice.expert.size(1);
  at::Tensor y = at::zeros_like(tokens);
  const TokenGroups groups = group_tokens(choice.expert.reshape({-1}), experts());  // token * m + slot, by token
  for (std::size_t e = 0; e < experts_.size(); ++e) {
    if (groups.count(e) == 0) continue;
    const ExpertWeights& own = experts_[e];
    const at::Tensor taken = groups.of(e), index = m > 1 ? at::floor_divide(taken, m) : taken;
    at::Tensor answer = at::linear(at::gelu(at::linear(tokens.index_select(0, index), own.fc1_weight, own.fc1_bias)),
                                   own.fc2_weight, own.fc2_bias);
    if (m > 1) answer = answer * choice.gate.reshape({-1}).index_select(0, taken).unsqueeze(1);
    y = y.index_add(0, index, answer);  // an expert meets a token once: no two rows are the same
  }
  if (trace != nullptr) {
    trace->x = x;
    trace->expert = m == 1 ? choice.expert.view({-1}) : choice.expert;
  }
  return y.reshape(x.sizes());
}

double MixtureMlp::active_neurons(std::span<const double> token_share) const {
  MOEX_ASSERT(token_share.size() == experts_.size(), "token shares of another layer");
  double active = 0;
  for (std::size_t e = 0; e < experts_.size(); ++e)
    active += token_share[e] * static_cast<double>(experts_[e].fc1_weight.size(0));
  return active;
}

double MixtureMlp::macs_per_token(std::span<const double> token_share) const {
  const double routed = prefix_tokens_ > 0 ? 1.0 - token_share.back() : 1.0;
  return 2.0 * static_cast<double>(router_.width()) * active_neurons(token_share) +
         (counts_router_ ? routed * router_macs(router_) : 0.0);
}

}  // namespace moextract::moe
