// Stage cluster: k-means on the recorded activations of every layer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "cluster/kmeans.h"
#include "config/field_list.h"
#include "run/stage_graph.h"
#include "store/activation_shard.h"

namespace moextract::stages {

inline constexpr int kClusterVersion = 2;

struct ClusterParams {
  store::Tap tap = store::Tap::h;  ///< what is clustered: h as in the paper, or the MLP's input x
  cluster::KMeansParams kmeans;
  std::int64_t block_rows = 4096;        ///< rows read at once
  std::int64_t checkpoint_seconds = 30;  ///< least time between two saves of a layer that is unfinished
};
void describe(config::Section section, ClusterParams& params);

struct ClusterInputs {
  std::vector<std::filesystem::path> shards;
  std::int64_t layers = 0;
};

/// Clusters of one layer as the stage leaves them.
struct LayerClusters {
  std::int64_t k = 0;
  std::vector<std::int32_t> labels;  ///< [rows] in the order of the shards
  nlohmann::json summary;            ///< k, rows, inertia, iterations, converged, sizes, history
};
std::filesystem::path layer_clusters_path(const std::filesystem::path& folder, std::int64_t layer);
/// Throws UserError (input) if the file is damaged.
LayerClusters load_layer_clusters(const std::filesystem::path& folder, std::int64_t layer);

/// Collective. Rows are streamed from the shards, which are dealt over the ranks in contiguous parts. What an
/// interrupted run finished is kept: whole layers, and of the next one the iterations that were saved. Bytes do not
/// depend on ranks or threads. Throws UserError (resume) at an iteration's end if a rank was asked to stop, after
/// saving.
nlohmann::json cluster_layers(const ClusterParams& params, const ClusterInputs& inputs, run::Context& context,
                              const std::filesystem::path& folder);

}  // namespace moextract::stages
