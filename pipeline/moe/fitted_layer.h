// The tensors of one layer whose experts are refitted by least squares.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/weights.h"
#include "moe/assembler.h"
#include "moe/second_moments.h"

namespace moextract::moe {

/// What determines the layer.
struct FittedLayerSpec {
  std::int64_t layer = 0;
  at::Tensor keys, key_bias;                       ///< router, [k, d] and [k]
  std::vector<std::vector<std::int64_t>> neurons;  ///< [k] kept neurons of each routed expert, ascending, not empty
  std::int64_t prefix_tokens = 1;         ///< of each image: they go to an expert of their own; 0: there is none
  Storage storage = Storage::own_output;  ///< own_output or shared (one output matrix fitted jointly)
  double ridge = 1e-3;
};

/// Replaces the MLP tensors of the layer in `tensors` (layout: expert_mlp.h). `moments`: routed experts, then the
/// prefix tokens. The prefix expert holds all neurons unchanged with own_output, the union of the others with the joint
/// fit. Output weights: W_S + W_B C_BS (C_SS + r I)^-1; jointly: the D that solves (sum_e m_e C_e,SS + r I) D^T = sum_e
/// m_e (W_B C_BS)^T, m_e the weight of the expert's tokens. Output bias of each expert: b2 + W mean - W_S' mean_S. In
/// double. Returns the expected squared output error of each routed expert as a share of tr(W C W^T).
std::vector<double> fit_layer(const FittedLayerSpec& spec, std::span<const SecondMoments> moments,
                              model::TensorMap& tensors);

}  // namespace moextract::moe
