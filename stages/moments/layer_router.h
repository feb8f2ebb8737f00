// The router of each layer, fitted to the recorded inputs and their clusters.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "config/field_list.h"
#include "moe/router_fit.h"
#include "run/stage_graph.h"

namespace moextract::stages {

void describe(config::Section section, moe::RouterParams& params);

struct LayerRouter {
  moe::RouterWeights weights;
  double agreement = -1;  ///< share of recorded rows whose best expert is their own cluster's; negative: unknown
};

/// Collective. Layers are dealt over the ranks; every rank gets all routers, the same bits on any number of ranks.
/// `clusters`: folder of the cluster stage; `shards`: what it read. `params.kind` settled. Throws UserError (input) if
/// files are damaged or do not belong together, or if inputs are needed that were not recorded.
std::vector<LayerRouter> fit_layer_routers(const moe::RouterParams& params, std::span<const std::int64_t> layers,
                                           const std::filesystem::path& clusters,
                                           const std::vector<std::filesystem::path>& shards, run::Context& context);

}  // namespace moextract::stages
