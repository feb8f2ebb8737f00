// Which neurons of a layer's experts can go first, and what each is worth.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "core/workers.h"
#include "moe/second_moments.h"
#include "stages/assemble/assemble.h"
#include "stages/moments/moments.h"

namespace moextract::stages {

/// The order of removal in one layer; all tensors, so that ranks can exchange it. Ranked are the routed experts and,
/// if it is cut like them, that of the prefix tokens.
struct ExpertRanking {
  std::int64_t k = 0;        ///< routed experts
  at::Tensor order;          ///< [ranked, U] int64: neurons, the first removed first
  at::Tensor cost;           ///< [ranked, U] double: what each is worth, not falling along a row
  at::Tensor count, weight;  ///< [experts] double: tokens of the experts (and the prefix tokens), their weight
  at::Tensor share;          ///< [experts] double: of the layer's tokens
  double mean_gradient = 0;  ///< as in LayerMoments
  double agreement = -1;     ///< the same
  double router_macs = 0;    ///< of one routed token
  double temperature = 1;    ///< of the router's probabilities
  std::int64_t router_parameters = 0;

  std::int64_t ranked() const { return order.size(0); }
  std::int64_t experts() const { return share.numel(); }
  bool prefix_apart() const { return experts() == k + 1; }
};

/// Experts with fewer than `min_tokens` tokens take the layer's pooled covariance and variance; of the others, those of
/// n tokens keep the share n / (n + pooled_tokens) of their own. Nothing changes with 0 and 0. Returns how many took
/// the layer's.
std::int64_t pool_covariances(LayerMoments& moments, double pooled_tokens, std::int64_t min_tokens = 0);

/// Covariance of the hidden values within the experts, over all experts and the prefix tokens: [H, H].
at::Tensor pooled_covariance(const LayerMoments& moments);

/// The layer's tokens as one expert: mean over all, variance (and covariance, if there is one) within the experts.
moe::SecondMoments pooled_moments(const LayerMoments& moments);

/// The layer with one expert for all routed tokens: what lies between the experts' means counts. The prefix tokens stay
/// apart if they were.
LayerMoments as_one_expert(const LayerMoments& moments);

/// The gradients' directions over all experts, by their weights: [d, d]; undefined without importance.
at::Tensor pooled_directions(const LayerMoments& moments);

/// W2 [d, H] in double, its rows mixed such that squared lengths of its columns are lengths in the metric
/// (1 - fisher) I + fisher d G, G the second moments [d, d] of the gradients' directions, trace 1.
at::Tensor in_output_metric(const at::Tensor& w, const at::Tensor& directions, double fisher);

/// Ranks the neurons of each expert by params.score (settled). `w` [d, H] double; `unite`: the neurons that a static
/// cut left, ascending, or empty for all; `ranks_prefix`: whether the prefix tokens' expert is ranked, too. Experts are
/// independent and dealt to the workers.
ExpertRanking rank_experts(const AssembleParams& params, std::int64_t layer, const LayerMoments& moments,
                           const at::Tensor& w, std::span<const std::int64_t> unite, bool ranks_prefix,
                           Workers& workers);

}  // namespace moextract::stages
