#include "cluster/automatic_k.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <optional>
#include <utility>

#include "cluster/agreement.h"
#include "cluster/memory_rows.h"
#include "cluster/quality.h"
#include "cluster/row_survey.h"
#include "core/error.h"
#include "core/float16.h"
#include "core/hash.h"
#include "core/random.h"

namespace moextract::cluster {
namespace {

void check(const KMeansParams& params, const AutomaticKParams& range) {
  if (range.least < 2 || range.most < range.least || range.step < 1) {
    fail(ExitCode::config,
         "automatic k: the range (k_range) is {} to {} in steps of {}, but must begin at 2 or more and not be empty",
         range.least, range.most, range.step);
  }
  if (range.criterion == ChooseK::stability && range.seeds < 2) {
    fail(ExitCode::config, "automatic k: stability compares fits, so seeds must be at least 2, not {}", range.seeds);
  }
  if (range.criterion == ChooseK::gap && range.references < 1) {
    fail(ExitCode::config, "automatic k: the gap compares with uniform rows, so references must be at least 1, not {}",
         range.references);
  }
  if (params.init == KMeansInit::given) {
    fail(ExitCode::config,
         "automatic k: initial centroids cannot be given, because their number is what is looked for");
  }
}

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

/// This rank's part of rows that every rank holds.
MemoryRows part_of(const std::vector<std::uint16_t>& rows, std::int64_t dimension, comm::Communicator& comm) {
  const std::int64_t n = static_cast<std::int64_t>(rows.size()) / dimension;
  const std::int64_t first = n * comm.rank() / comm.size(), last = n * (comm.rank() + 1) / comm.size();
  return {std::vector<std::uint16_t>(rows.begin() + first * dimension, rows.begin() + last * dimension), dimension,
          first};
}

/// A sample of the rows, and uniform rows within its range.
class GapSets {
 public:
  GapSets(const RowSource& source, const KMeansParams& params, const AutomaticKParams& range, comm::Communicator& comm,
          Workers& workers) {
    const RowSurvey survey =
        survey_rows(source, std::max<std::int64_t>(range.sample_rows, 1), params.spherical, params.seed, comm, workers);
    const auto d = static_cast<std::size_t>(survey.dimension);
    std::vector<std::uint16_t> sample(survey.sample.size());
    to_float16(survey.sample, sample);
    std::vector<float> least(d, INFINITY), most(d, -INFINITY);
    for (std::size_t i = 0; i < survey.sample.size(); ++i) {
      least[i % d] = std::min(least[i % d], survey.sample[i]);
      most[i % d] = std::max(most[i % d], survey.sample[i]);
    }
    sets_.push_back(part_of(sample, survey.dimension, comm));
    std::vector<float> values(sample.size());
    for (std::int64_t r = 0; r < range.references; ++r) {
      RandomStream random(params.seed, hash64("cluster.gap_reference"), static_cast<std::uint64_t>(r));
      for (std::size_t i = 0; i < values.size(); ++i) {
        const double share = random.uniform();
        values[i] = static_cast<float>(static_cast<double>(least[i % d]) * (1 - share) +
                                       static_cast<double>(most[i % d]) * share);
      }
      to_float16(values, sample);
      sets_.push_back(part_of(sample, survey.dimension, comm));
    }
  }

  TriedK measure(const KMeansParams& params, comm::Communicator& comm, Workers& workers,
                 const KMeansHooks& hooks) const {
    std::vector<double> logs;
    for (const MemoryRows& rows : sets_) {
      const double inertia = fit(rows, params, comm, workers, hooks).model.inertia;
      logs.push_back(std::log(std::max(inertia, 1e-300)));  // as many clusters as different rows leave none
      if (logs.size() == 1) first_inertia_ = inertia;
    }
    const auto count = static_cast<double>(logs.size() - 1);
    double mean = 0, spread = 0;
    for (std::size_t r = 1; r < logs.size(); ++r) mean += logs[r] / count;
    for (std::size_t r = 1; r < logs.size(); ++r) spread += (logs[r] - mean) * (logs[r] - mean) / count;
    return {.k = params.k,
            .score = mean - logs[0],
            .error = std::sqrt(spread * (1 + 1 / count)),
            .inertia = first_inertia_};
  }

 private:
  std::vector<MemoryRows> sets_;  // the sample, then the references
  mutable double first_inertia_ = 0;
};

}  // namespace

std::vector<TriedK> try_k(const RowSource& source, const KMeansParams& params, const AutomaticKParams& range,
                          comm::Communicator& comm, Workers& workers, const AutomaticKHooks& hooks) {
  check(params, range);
  const KMeansHooks of_sample{.should_stop = hooks.should_stop};
  const KMeansHooks of_rows{.should_stop = hooks.should_stop, .make_pass = hooks.make_pass};
  std::optional<GapSets> sets;
  const auto try_one = [&](std::int64_t k) {
    KMeansParams one = params;
    one.k = k;
    TriedK tried{.k = k};
    if (range.criterion == ChooseK::gap) {
      if (!sets) sets.emplace(source, params, range, comm, workers);
      return sets->measure(one, comm, workers, of_sample);
    }
    const KMeansFit first = fit(source, one, comm, workers, of_rows);
    tried.inertia = first.model.inertia;
    if (range.criterion == ChooseK::silhouette) {
      tried.score =
          measure_quality(first.model, source, params.spherical, range.sample_rows, params.seed, comm, workers)
              .silhouette;
      if (std::isnan(tried.score)) tried.score = -1;
      return tried;
    }
    std::vector<std::vector<std::int32_t>> labels = {first.labels};
    for (std::int64_t s = 1; s < range.seeds; ++s) {
      one.seed = params.seed + static_cast<std::uint64_t>(s);
      labels.push_back(fit(source, one, comm, workers, of_rows).labels);
    }
    tried.score = mean_agreement(labels, comm);
    return tried;
  };
  std::vector<TriedK> all;
  const auto add = [&](std::int64_t k) {
    if (all.size() < hooks.before.size() && hooks.before[all.size()].k == k) {
      all.push_back(hooks.before[all.size()]);
      return;
    }
    all.push_back(try_one(k));
    comm.together([&] {
      if (hooks.on_tried && comm.is_root()) hooks.on_tried(all.back());
    });
  };
  std::int64_t k = range.least, most = range.most;
  while (k <= most) {
    try {
      add(k);
      k += range.step;
    } catch (const TooFewRows& few) {  // on all ranks
      if (!all.empty()) break;
      k = most = few.different();  // fewer than k
    }
  }
  return all;
}

std::int64_t choose_k(ChooseK criterion, std::span<const TriedK> tried) {
  MOEX_ASSERT(!tried.empty(), "no k was tried");
  if (criterion == ChooseK::gap) {
    for (std::size_t i = 0; i + 1 < tried.size(); ++i) {
      if (tried[i].score >= tried[i + 1].score - tried[i + 1].error) return tried[i].k;
    }
    return tried.back().k;
  }
  TriedK best = tried.front();
  for (const TriedK& one : tried.subspan(1)) {
    // Small numbers of clusters are stable easily: of equals the larger says more.
    const bool better = criterion == ChooseK::stability ? one.score >= best.score : one.score > best.score;
    if (better) best = one;
  }
  return best.k;
}

AutomaticKFit fit_automatic_k(const RowSource& source, const KMeansParams& params, const AutomaticKParams& range,
                              comm::Communicator& comm, Workers& workers) {
  AutomaticKFit result;
  result.tried = try_k(source, params, range, comm, workers);
  KMeansParams chosen = params;
  chosen.k = choose_k(range.criterion, result.tried);
  result.fit = fit(source, chosen, comm, workers);
  return result;
}

}  // namespace moextract::cluster
