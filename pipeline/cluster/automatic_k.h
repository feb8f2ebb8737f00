// The number of clusters, chosen over a range by a stated criterion.
#pragma once

#include <cstdint>
#include <vector>

#include "cluster/kmeans.h"

namespace moextract::cluster {

enum class ChooseK {
  silhouette,  ///< the highest mean silhouette of a sample
  stability    ///< the highest mean agreement (ARI) between fits from different seeds; the larger k of equals
};

struct AutomaticKParams {
  std::int64_t least = 2, most = 16, step = 1;  ///< k = least, least + step, ... up to most
  ChooseK criterion = ChooseK::silhouette;
  std::int64_t sample_rows = 4096;  ///< for the silhouette
  std::int64_t seeds = 4;           ///< fits of each k for stability: all pairs are compared
};

struct TriedK {
  std::int64_t k = 0;
  double score = 0;    ///< of the criterion; higher is better
  double inertia = 0;  ///< of the first fit
};

struct AutomaticKFit {
  KMeansFit fit;              ///< of the chosen k, with the seed of the parameters
  std::vector<TriedK> tried;  ///< in ascending k
};

/// Collective; every rank gets the same, for any ranks and threads. `params.k` is not read. Throws UserError (config)
/// for an empty or wrong range, else as fit().
AutomaticKFit fit_automatic_k(const RowSource& source, const KMeansParams& params, const AutomaticKParams& range,
                              comm::Communicator& comm, Workers& workers);

}  // namespace moextract::cluster
