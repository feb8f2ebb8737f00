// How well rows are clustered, when there is no truth to compare with.
#pragma once

#include <cstdint>
#include <span>

#include "cluster/kmeans.h"
#include "cluster/row_source.h"
#include "comm/communicator.h"
#include "core/workers.h"

namespace moextract::cluster {

struct ClusterQuality {
  /// Mean silhouette (Rousseeuw 1987) of the sampled rows among themselves, Euclidean: -1 to 1, higher is better. Rows
  /// alone in their cluster count 0. NaN where the sample shows fewer than two clusters.
  double silhouette = 0;
  /// Davies and Bouldin's index (1979) of the clusters over the sampled rows: 0 and up, lower is better. NaN as above.
  double davies_bouldin = 0;
  std::int64_t sampled = 0;  ///< rows it was measured on
};

/// Collective; every rank gets the same. The sample is the `sample_rows` rows with the smallest hashes of (seed, global
/// number), all if there are no more, labelled by the model: the same for any ranks and threads. Work grows with the
/// square of the sample. Errors as of fit().
ClusterQuality measure_quality(const KMeansModel& model, const RowSource& source, bool spherical,
                               std::int64_t sample_rows, std::uint64_t seed, comm::Communicator& comm,
                               Workers& workers);

/// The same of rows at hand: [n, dimension] prepared rows and their labels.
ClusterQuality measure_quality(std::span<const float> rows, std::int64_t dimension,
                               std::span<const std::int32_t> labels, Workers& workers);

}  // namespace moextract::cluster
