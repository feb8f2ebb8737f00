// From means and variances of clusters and a choice of neurons to the tensors of an expert layer or a pruned one.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/weights.h"
#include "moe/fitted_layer.h"
#include "moe/moments.h"

namespace moextract::moe {

/// Replaces the MLP tensors of `layer` in `tensors` by experts (layout: expert_mlp.h). `neurons[c]` ascending and not
/// empty. Routing keys are the mean inputs of the clusters, scaled to unit length (MoEE, arXiv 2505.15414).
void assemble_experts(std::int64_t layer, const ClusterMoments& moments,
                      std::span<const std::vector<std::int64_t>> neurons, Storage storage, Compensation compensation,
                      model::TensorMap& tensors);

/// Keeps `neurons` (ascending, not empty) of the MLP of `layer`. `moments` has one cluster: all rows. With mean_shift
/// this is VBP (arXiv 2507.12988).
void prune_layer(std::int64_t layer, const ClusterMoments& moments, std::span<const std::int64_t> neurons,
                 Compensation compensation, model::TensorMap& tensors);

/// The clusters' moments in the form that all scores and fits take: weights are counts, no covariance.
std::vector<SecondMoments> as_second_moments(const ClusterMoments& moments);

/// VBP's choice: all neurons of all layers ranked together by variance, the `keep` best kept, at least `minimum` in
/// each layer. `variance[l]` [H of layer l]. Returns the kept neurons of each layer, ascending.
std::vector<std::vector<std::int64_t>> rank_globally(std::span<const std::vector<double>> variance, std::int64_t keep,
                                                     std::int64_t minimum);

}  // namespace moextract::moe
