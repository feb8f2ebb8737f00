// How far neurons that are active together fall into groups.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

namespace moextract::moe {

/// Modularity (Newman and Girvan 2004) of a weighted graph under a division into groups: share of the weight of edges
/// inside the groups minus what it would be if edges fell at random by the nodes' weights. `weights` [n, n] symmetric,
/// not negative; the diagonal is left out. 0 for one group, or without any weight.
double modularity(const at::Tensor& weights, std::span<const std::int64_t> group);

/// Of neurons: edges are |correlation| of two hidden values (`covariance` [H, H]), groups given.
double coactivation_modularity(const at::Tensor& covariance, std::span<const std::int64_t> group);

}  // namespace moextract::moe
