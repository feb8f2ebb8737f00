// Which neurons of a layer's experts can go first, and what each costs.
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

/// The order of removal in one layer; all tensors, so that ranks can exchange it.
struct ExpertRanking {
  std::int64_t k = 0;
  at::Tensor order;          ///< [k, U] int64: neurons, the first removed first
  at::Tensor cost;           ///< [k, U] double: rise of the expected output error per token, not falling along a row
  at::Tensor count, weight;  ///< [k + 1] double: tokens of the routed experts and the prefix tokens, and their weight
  double mean_gradient = 0;  ///< as in LayerMoments
};

/// Draws the moments of experts with few tokens towards those of the whole layer: an expert of n tokens keeps the share
/// n / (n + pooled_tokens) of its own covariance. Nothing changes with pooled_tokens = 0.
void pool_covariances(LayerMoments& moments, double pooled_tokens);

/// Covariance of the hidden values within the experts, over all experts and the prefix tokens: [H, H].
at::Tensor pooled_covariance(const LayerMoments& moments);

/// W2 [d, H] in double, its rows mixed such that squared lengths of its columns are lengths in the metric
/// (1 - fisher) I + fisher d G, G the second moments [d, d] of the gradients' directions, trace 1.
at::Tensor in_output_metric(const at::Tensor& w, const at::Tensor& directions, double fisher);

/// Ranks the neurons of each routed expert. `w` [d, H] double; `unite`: the neurons that a static cut left, ascending,
/// or empty for all. Experts are independent and dealt to the workers.
ExpertRanking rank_experts(const AssembleParams& params, const LayerMoments& moments, const at::Tensor& w,
                           std::span<const std::int64_t> unite, Workers& workers);

}  // namespace moextract::stages
