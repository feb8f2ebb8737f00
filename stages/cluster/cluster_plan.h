// What the cluster stage will take of a rank's memory, from the settings alone.
#pragma once

#include <cstdint>

#include "stages/cluster/cluster_params.h"

namespace moextract::stages {

/// What the plan is made for.
struct ClusterScale {
  std::int64_t rows = 0;                  ///< of a layer, over all ranks
  std::int64_t x_width = 0, h_width = 0;  ///< of the recorded rows
  std::int64_t ranks = 1;
  std::int64_t threads = 1;  ///< of a rank
};

/// Bytes of one rank at most, besides the program. Steps that follow each other count once, by the one that takes most.
/// An upper bound of what is allocated, but for two things: how many candidates k-means|| draws is chance (six standard
/// deviations above the mean are counted), and the neighbour lists that HDBSCAN's ranks exchange are counted as a third
/// of the longest that they can be. LibTorch's passes on a device are not in it.
struct ClusterPlan {
  double rows = 0;     ///< kept, and the block that is being read
  double labels = 0;   ///< and what goes with each row: of this rank's rows, and of all where they are gathered
  double start = 0;    ///< k-means: the sample and the candidates of the first centroids
  double passes = 0;   ///< k-means: distance bounds, rounded rows, sums, what the threads work with
  double choice = 0;   ///< an automatic k by the gap: its sets of rows and their fits
  double density = 0;  ///< HDBSCAN
  double quality = 0;  ///< the sample that k-means' quality is measured on
  double memory() const;
};

ClusterPlan plan_cluster(const ClusterParams& params, const ClusterScale& scale);

/// Values of a row that is clustered.
std::int64_t cluster_width(ClusterTap tap, std::int64_t x_width, std::int64_t h_width);

}  // namespace moextract::stages
