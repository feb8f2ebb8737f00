#include "cluster/automatic_k.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "cluster/agreement.h"
#include "cluster/quality.h"
#include "core/error.h"

namespace moextract::cluster {
namespace {

double mean_agreement(const std::vector<std::vector<std::int32_t>>& labels, comm::Communicator& comm) {
  double sum = 0;
  std::int64_t pairs = 0;
  for (std::size_t a = 0; a < labels.size(); ++a) {
    for (std::size_t b = a + 1; b < labels.size(); ++b) {
      sum += adjusted_rand_index(labels[a], labels[b], comm);
      ++pairs;
    }
  }
  return sum / static_cast<double>(pairs);
}

}  // namespace

AutomaticKFit fit_automatic_k(const RowSource& source, const KMeansParams& params, const AutomaticKParams& range,
                              comm::Communicator& comm, Workers& workers) {
  if (range.least < 2 || range.most < range.least || range.step < 1) {
    fail(ExitCode::config,
         "automatic k: the range is {} to {} in steps of {}, but must begin at 2 or more and not be empty", range.least,
         range.most, range.step);
  }
  if (range.criterion == ChooseK::stability && range.seeds < 2) {
    fail(ExitCode::config, "automatic k: stability compares fits, so seeds must be at least 2, not {}", range.seeds);
  }
  if (params.init == KMeansInit::given) {
    fail(ExitCode::config,
         "automatic k: initial centroids cannot be given, because their number is what is looked for");
  }
  AutomaticKFit result;
  double best = -INFINITY;
  for (std::int64_t k = range.least; k <= range.most; k += range.step) {
    KMeansParams one = params;
    one.k = k;
    KMeansFit first = fit(source, one, comm, workers);
    TriedK tried{.k = k, .score = 0, .inertia = first.model.inertia};
    if (range.criterion == ChooseK::silhouette) {
      tried.score =
          measure_quality(first.model, source, params.spherical, range.sample_rows, params.seed, comm, workers)
              .silhouette;
      if (std::isnan(tried.score)) tried.score = -1;
    } else {
      std::vector<std::vector<std::int32_t>> labels = {first.labels};
      for (std::int64_t s = 1; s < range.seeds; ++s) {
        one.seed = params.seed + static_cast<std::uint64_t>(s);
        labels.push_back(fit(source, one, comm, workers).labels);
      }
      tried.score = mean_agreement(labels, comm);
    }
    // Small numbers of clusters are stable easily: of equals the larger is said more.
    const bool better = range.criterion == ChooseK::stability ? tried.score >= best : tried.score > best;
    if (better) {
      best = tried.score;
      result.fit = std::move(first);
    }
    result.tried.push_back(tried);
  }
  return result;
}

}  // namespace moextract::cluster
