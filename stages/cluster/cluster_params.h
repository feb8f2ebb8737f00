// What the cluster stage can be told, and the keys that tell it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "cluster/automatic_k.h"
#include "cluster/hdbscan.h"
#include "cluster/kmeans.h"
#include "config/field_list.h"
#include "stages/cluster/shard_row_source.h"

namespace moextract::stages {

enum class ClusterMethod { kmeans, hdbscan };

/// Whether k is given, or chosen for each layer.
enum class AutomaticK { none, silhouette, stability, gap, hdbscan };

struct ClusterParams {
  ClusterTap tap = ClusterTap::h;  ///< what is clustered: h as in the paper by default
  ClusterMethod method = ClusterMethod::kmeans;
  cluster::KMeansParams kmeans;
  std::filesystem::path centroids;  ///< k-means with KMeansInit::given: given_centroids.h
  AutomaticK automatic_k = AutomaticK::none;
  cluster::AutomaticKParams k_range;  ///< its criterion is not read: automatic_k says it
  cluster::hdbscan::Params hdbscan{.min_cluster_size = 50,
                                   .min_samples = 5,
                                   .pca_components = 50,
                                   .noise = cluster::hdbscan::NoisePolicy::nearest_centroid};
  std::int64_t held_back_rows = 1000;     ///< HDBSCAN: rows on which predict is compared with fit; 0: it is not
  std::int64_t quality_rows = 1000;       ///< rows of the sampled silhouette and Davies-Bouldin's index; 0: neither
  std::int64_t agreement_seeds = 0;       ///< k-means: further seeds whose labels are compared with the result's
  std::int64_t block_rows = 4096;         ///< rows read at once
  std::int64_t keep_bytes = 1LL << 30;    ///< a layer's rows of this rank stay in memory if they are no larger
  std::int64_t device_bytes = 8LL << 30;  ///< on a GPU: a layer's rows of this rank stay there if they are no larger
  std::int64_t checkpoint_seconds = 30;   ///< least time between two saves of a layer that is unfinished
};
void describe(config::Section section, ClusterParams& params);

/// Of the section's settings those that the chosen method reads: what others say changes no result and no address.
nlohmann::json settings_in_use(const ClusterParams& params, nlohmann::json section);

/// "k-means, k = 8", "k-means, k by silhouette from 2 to 16", "HDBSCAN on 30000 rows": for people.
std::string method_text(const ClusterParams& params);

/// Whether the centroids that k-means starts from are those of params.centroids.
bool starts_from_file(const ClusterParams& params);

/// The most clusters that a layer can have by the settings; 0 where the data decide.
std::int64_t most_clusters(const ClusterParams& params);

}  // namespace moextract::stages
