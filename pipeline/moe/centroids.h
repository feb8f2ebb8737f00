// Centroids of clusters, and the router that finds the nearest.
#pragma once

#include <ATen/core/Tensor.h>

#include "moe/expert_router.h"

namespace moextract::moe {

struct Centroids {
  at::Tensor rows;             ///< [k, d]; undefined: there are none
  at::Tensor prices = {};      ///< [k], of balanced k-means: added to squared distances; or undefined
  at::Tensor map_weight = {};  ///< [d, inputs]: what was clustered is map_weight x + map_bias; undefined: x itself
  at::Tensor map_bias = {};    ///< [d]
};

/// Keys and bias such that the largest x keys^T + bias is the nearest centroid's, the map folded in: with a = W^T c as
/// key, |W x + b - c|^2 is |W x + b|^2 - 2 (x . a + b . c) + |c|^2, and its first term is common to all. Of one product
/// an input, whatever the map. Centroids are rounded to float32, the rest is in double; keys and bias are float32, on
/// the centroids' device.
RouterWeights nearest_router(const Centroids& centroids);

}  // namespace moextract::moe
