// Each expert's own weights, gathered from a layer's tensors (layout: expert_mlp.h), whatever the storage.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "model/weights.h"

namespace moextract::moe {

/// y = fc2_weight GELU(fc1_weight x + fc1_bias) + fc2_bias.
struct ExpertWeights {
  at::Tensor fc1_weight, fc1_bias;  ///< [|S|, d], [|S|]
  at::Tensor fc2_weight, fc2_bias;  ///< [d, |S|], [d]
};

/// Contiguous weights of every expert; with a low-rank correction the sum of the shared matrix and the product. When
/// gradients are recorded, they flow back to the tensors. Tensors are as checked by load_model.
std::vector<ExpertWeights> load_expert_weights(std::int64_t layer, const model::TensorMap& tensors);

}  // namespace moextract::moe
