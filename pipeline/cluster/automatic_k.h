// The number of clusters, chosen over a range by a stated criterion.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "cluster/kmeans.h"

namespace moextract::cluster {

enum class ChooseK {
  silhouette,  ///< the highest mean silhouette of a sample; the smaller k of equals
  stability,   ///< the highest mean agreement (ARI) between fits from different seeds; the larger k of equals
  gap          ///< the gap statistic of Tibshirani, Walther and Hastie (2001) on a sample
};

struct AutomaticKParams {
  std::int64_t least = 2, most = 16, step = 1;  ///< k = least, least + step, ... up to most
  ChooseK criterion = ChooseK::silhouette;
  std::int64_t sample_rows = 4096;  ///< for the silhouette and the gap
  std::int64_t seeds = 4;           ///< fits of each k for stability: all pairs are compared
  std::int64_t references = 10;     ///< sets of uniform rows that the gap compares with
};

struct TriedK {
  std::int64_t k = 0;
  double score = 0;    ///< of the criterion; higher is better
  double error = 0;    ///< gap: s_k, the standard deviation over references times sqrt(1 + 1 / references)
  double inertia = 0;  ///< of the first fit; of the gap's sample
};

struct AutomaticKHooks {
  std::span<const TriedK> before = {};  ///< the first of the range, from an earlier call with the same parameters
  /// Called on rank 0 after each k; what it throws ends the call on all ranks.
  std::function<void(const TriedK&)> on_tried = {};
  /// As KMeansHooks::should_stop: leads to KMeansStopped; a k that is not finished is tried again another time.
  std::function<bool()> should_stop = {};
  /// As KMeansHooks::make_pass, for the fits on all rows. (Those of the gap are on a sample.)
  MakePass make_pass = {};
};

/// Collective; every rank gets the same, for any ranks and threads. `params.k` is not read.
///
/// The range ends at what is possible: before the first k that exceeds the number of different rows (by the gap: of the
/// sample, or of a set of uniform rows). Where that is below range.least, it is the one k that is tried, 1 if all rows
/// are equal.
///
/// The gap of k is mean over references of log(inertia of the reference) - log(inertia of the rows), both clustered
/// alike, on a sample of the rows and on as many rows drawn uniformly within the sample's range in each column.
///
/// Throws UserError (config) for an empty or wrong range, else as fit().
std::vector<TriedK> try_k(const RowSource& source, const KMeansParams& params, const AutomaticKParams& range,
                          comm::Communicator& comm, Workers& workers, const AutomaticKHooks& hooks = {});

/// The k that the criterion chooses among the tried ones, in ascending order. By the gap: the smallest k whose gap is
/// at least the next one's less its error; if there is none, the last.
std::int64_t choose_k(ChooseK criterion, std::span<const TriedK> tried);

struct AutomaticKFit {
  KMeansFit fit;              ///< of the chosen k, with the seed of the parameters
  std::vector<TriedK> tried;  ///< in ascending k
};

/// Collective. try_k, choose_k, and a fit of the chosen one.
AutomaticKFit fit_automatic_k(const RowSource& source, const KMeansParams& params, const AutomaticKParams& range,
                              comm::Communicator& comm, Workers& workers);

}  // namespace moextract::cluster
