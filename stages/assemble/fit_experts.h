// Experts of all layers from their statistics: ranking, budget, fit. Layers are dealt over the ranks.
#pragma once

#include <filesystem>
#include <functional>
#include <vector>

#include "model/network.h"
#include "moe/fitted_layer.h"
#include "run/stage_graph.h"
#include "stages/assemble/assemble.h"
#include "stages/moments/moments.h"

namespace moextract::stages {

/// Statistics of one layer: from the moments stage's file, or recorded.
using MomentsOf = std::function<LayerMoments(std::int64_t layer)>;

/// What a fit leaves besides tensors.
struct FittedModel {
  nlohmann::json facts;       ///< for assembly.json
  model::TokenShares shares;  ///< expected, of each layer's experts; empty for a layer without
  double macs = 0;            ///< of an image, as the budget counted them
  std::int64_t parameters = 0;
  std::vector<moe::FittedLayerSpec> layers;  ///< of each layer that was cut, ascending
};

/// Collective. Every rank gets all tensors, the same bits on any number of ranks. Replaces the MLPs in `tensors`.
/// Layers with one cluster, and those whose experts would cost no less than the dense MLP, stay dense.
FittedModel fit_experts(const AssemblyChoices& choices, const AssembleInputs& inputs, const MomentsOf& moments,
                        run::Context& context, model::TensorMap& tensors);

}  // namespace moextract::stages
