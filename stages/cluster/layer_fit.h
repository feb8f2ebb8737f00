// The clustering of one layer by either method, resumable and with the facts that are reported.
#pragma once

#include <cstdint>
#include <filesystem>

#include "run/stage_graph.h"
#include "stages/cluster/cluster_params.h"
#include "stages/cluster/layer_clusters.h"
#include "stages/cluster/shard_row_source.h"

namespace moextract::stages {

/// Which layer, and where what is unfinished of it is kept.
struct LayerPlace {
  const std::filesystem::path& folder;  ///< of the artefact
  std::int64_t layer = 0, layers = 0;
};

/// Collective. The fit of one layer, from where an earlier run left it. k-means is saved after iterations and, with
/// an automatic k, after each k tried; HDBSCAN of a layer begins anew. Throws UserError (resume) if a rank was asked to
/// stop, after saving what can be.
LayerFit fit_layer(const ClusterParams& params, const ShardRowSource& source, const LayerPlace& place,
                   run::Context& context);

/// Removes what is kept of a layer that is finished. On one rank.
void forget_layer(const LayerPlace& place);

}  // namespace moextract::stages
