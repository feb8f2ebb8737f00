// Means, sizes and inertia of clusters whose labels are given: what methods that find labels by other means than
// centroids owe to those who route by the nearest centroid.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cluster/row_source.h"
#include "comm/communicator.h"
#include "core/workers.h"

namespace moextract::cluster {

struct LabelMeans {
  std::vector<float> centroids;     ///< [k, dimension] means on the centroids' grid; zeros for a cluster without rows
  std::vector<std::int64_t> sizes;  ///< [k] rows
  double inertia = 0;               ///< sum of squared distances of the labelled rows to the means of their clusters
};

/// Collective: two passes over the rows and one reduction each. `labels` are the local rows'; -1: in no cluster.
/// `spherical`: rows and means are brought to unit length, as k-means does. The same bits for any ranks and threads:
/// sums of rows are integers, squared distances are rounded to integers before they are summed. Weights are not read.
LabelMeans label_means(const RowSource& source, std::span<const std::int32_t> labels, std::int64_t k, bool spherical,
                       comm::Communicator& comm, Workers& workers);

}  // namespace moextract::cluster
