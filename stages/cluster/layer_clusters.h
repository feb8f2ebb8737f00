// The clusters of one layer, as they are found and as they stand in a file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cluster/hdbscan.h"
#include "cluster/kmeans.h"
#include "stages/cluster/row_map.h"

namespace moextract::stages {

/// Clusters of one layer as the stage leaves them.
struct LayerClusters {
  std::int64_t k = 0;
  std::vector<std::int32_t> labels;  ///< [rows] in the order of the shards; -1: in no cluster (HDBSCAN, noise dropped)
  nlohmann::json summary;            ///< docs/formats.md: k, rows, inertia, sizes, and what the method tells
};
std::filesystem::path layer_clusters_path(const std::filesystem::path& folder, std::int64_t layer);
/// Throws UserError (input) if the file is damaged.
LayerClusters load_layer_clusters(const std::filesystem::path& folder, std::int64_t layer);

/// What the fit of one layer gives; the same on every rank but for labels and probabilities, which are the local rows'.
struct LayerFit {
  std::int64_t k = 0, dimension = 0;
  std::vector<float> centroids;                        ///< [k, dimension]
  std::vector<std::int64_t> sizes;                     ///< [k]
  std::vector<std::int32_t> labels;                    ///< [local rows]
  std::vector<double> prices = {};                     ///< [k]; balanced k-means alone
  std::vector<float> probabilities = {};               ///< [local rows]; k-means has none
  std::vector<cluster::KMeansIteration> history = {};  ///< of the best start
  std::optional<cluster::hdbscan::Model> tree = {};
  RowMap map = {};  ///< tap z: what inputs became the clustered rows by; else empty
  nlohmann::json summary;
};

/// On one rank, with the labels and probabilities of all rows: layer-NNN.safetensors last, so that where it is, all is.
/// k-means also leaves layer-NNN.iterations.jsonl, HDBSCAN layer-NNN.hdbscan.safetensors (spanning tree, single
/// linkage, condensed tree, the sample) and layer-NNN.hdbscan.json. Throws UserError (storage).
void save_layer_clusters(const std::filesystem::path& folder, std::int64_t layer, const LayerFit& fit);

}  // namespace moextract::stages
