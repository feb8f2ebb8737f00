// Stage cluster: k-means or HDBSCAN on the recorded activations of every layer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <vector>

#include "run/stage_graph.h"
#include "stages/cluster/cluster_params.h"
#include "stages/cluster/layer_clusters.h"

namespace moextract::stages {

inline constexpr int kClusterVersion = 3;

struct ClusterInputs {
  std::vector<std::filesystem::path> shards;
  std::int64_t layers = 0;
  /// Of a layer's MLP with tap y its second layer (W2 and b2), with tap z its first; not asked for otherwise.
  std::function<RowMap(std::int64_t layer)> mlp_layer = {};
};

/// Collective. Rows are streamed from the shards, which are dealt over the ranks in contiguous parts. What an
/// interrupted run finished is kept: whole layers, and of the next one the iterations that were saved. Bytes do not
/// depend on ranks or threads (but for the seconds of iterations). A layer in which HDBSCAN finds fewer than two
/// clusters becomes one cluster of all rows. Throws UserError (resume) if a rank was asked to stop, after saving.
/// Returns, for the manifest, rows, layers, k of each layer, and for HDBSCAN the sample's size and how far predicting
/// agrees with fitting on rows held back.
nlohmann::json cluster_layers(const ClusterParams& params, const ClusterInputs& inputs, run::Context& context,
                              const std::filesystem::path& folder);

}  // namespace moextract::stages
