// Statistics of the recorded tokens of each layer: moments of every cluster, and how the router will deal the tokens.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <vector>

#include "moe/moments.h"
#include "run/stage_graph.h"
#include "stages/moments/layer_router.h"
#include "store/shard_rows.h"

namespace moextract::stages {

struct LayerStatistics {
  moe::ClusterMoments moments;
  std::vector<double> token_share;  ///< [k] share of the recorded rows that the router sends to each expert
};

/// Labels of the rows of one layer, or an empty vector: all rows are one cluster.
using LabelsOf = std::function<std::vector<std::int32_t>(std::int64_t layer, std::int64_t* k)>;

/// Collective. Layers are dealt over the ranks, each streams its layers' rows (twice where there is a router); every
/// rank gets all results, the same bits on any number of ranks and threads. `routers`: one a layer, or none. Rows of no
/// cluster (negative labels) are left out of the moments.
std::vector<LayerStatistics> gather_statistics(std::span<const store::ShardExtent> shards, std::int64_t layers,
                                               const LabelsOf& labels, std::span<const LayerRouter> routers,
                                               run::Context& context);

}  // namespace moextract::stages
