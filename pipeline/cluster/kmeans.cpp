#include "cluster/kmeans.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "cluster/balancer.h"
#include "cluster/centroid_grid.h"
#include "cluster/distances.h"
#include "cluster/kmeans_init.h"
#include "cluster/lloyd.h"
#include "cluster/nearest.h"
#include "cluster/row_survey.h"
#include "cluster/tile_pass.h"
#include "core/error.h"

namespace moextract::cluster {
namespace {

void require_at_least_one(std::int64_t value, const char* name) {
  if (value < 1) fail(ExitCode::config, "k-means: {} is {}, but must be at least 1", name, value);
}

void check(const KMeansParams& params) {
  require_at_least_one(params.k, "k");
  require_at_least_one(params.max_iterations, "max_iterations");
  require_at_least_one(params.n_init, "n_init");
  require_at_least_one(params.init_sample, "init_sample");
  if (params.k > std::numeric_limits<std::int32_t>::max()) {
    fail(ExitCode::config, "k-means: k is {}, but labels are 32-bit numbers", params.k);
  }
  if (!(params.tolerance >= 0)) {
    fail(ExitCode::config, "k-means: tolerance is {}, but must be 0 or more", params.tolerance);
  }
  if (!(params.inertia_tolerance >= 0)) {
    fail(ExitCode::config, "k-means: inertia_tolerance is {}, but must be 0 or more", params.inertia_tolerance);
  }
  if (!(params.balance >= 0) || std::isinf(params.balance)) {
    fail(ExitCode::config, "k-means: balance is {}, but must be 0 (any sizes) or the excess that is allowed",
         params.balance);
  }
  require_at_least_one(params.init_rounds, "init_rounds");
  if (!(params.init_oversampling > 0 && params.init_oversampling <= 1000)) {
    fail(ExitCode::config, "k-means: init_oversampling is {}, but must be above 0 and at most 1000",
         params.init_oversampling);
  }
}

// Centroids of any origin as the exact arithmetic needs them.
std::vector<float> on_the_grid(const std::vector<float>& centroids, const char* whose) {
  std::vector<float> snapped(centroids.size());
  for (std::size_t i = 0; i < centroids.size(); ++i) {
    if (!(std::fabs(centroids[i]) <= kLargestCentroidValue)) {
      fail(ExitCode::input, "k-means: value {} of {} centroids is {}: it must be finite and at most {} in size", i,
           whose, centroids[i], kLargestCentroidValue);
    }
    snapped[i] = to_centroid_grid(static_cast<double>(centroids[i]));
  }
  return snapped;
}

void check_given(const KMeansParams& params, std::int64_t dimension) {
  if (static_cast<std::int64_t>(params.initial.size()) != params.k * dimension) {
    fail(ExitCode::input, "k-means: {} values of initial centroids were given, but {} clusters of dimension {} need {}",
         params.initial.size(), params.k, dimension, params.k * dimension);
  }
}

void check_state(const KMeansState& state, const KMeansParams& params, std::int64_t dimension) {
  const auto size = static_cast<std::size_t>(params.k * dimension);
  if (state.centroids.size() != size || (state.iteration > 0) != (state.previous.size() == size) ||
      state.best.size() != (state.start > 0 ? size : 0) ||
      (!state.balancer.empty() && state.balancer.size() != Balancer::state_size(params.k)) || state.start < 0 ||
      state.start >= params.n_init || state.iteration != static_cast<std::int64_t>(state.history.size())) {
    fail(ExitCode::resume,
         "k-means: the state to go on from does not belong to {} clusters of dimension {} and {} starts: begin anew",
         params.k, dimension, params.n_init);
  }
}

// Labels and inertia of centroids that are final.
KMeansFit only_assign(const RowSource& source, KMeansParams params, const RowSurvey& facts, comm::Communicator& comm,
                      Workers& workers, const KMeansHooks& hooks, const std::vector<float>& centroids,
                      const std::vector<double>& prices) {
  params.max_iterations = 0;
  params.empty = EmptyClusters::keep;
  const KMeansHooks silent{.make_pass = hooks.make_pass};
  return Lloyd(source, params, facts, comm, workers, silent).only_assign(centroids, prices);
}

}  // namespace

TooFewRows::TooFewRows(std::int64_t k, std::int64_t rows, std::int64_t different, bool spherical)
    : UserError(ExitCode::input,
                fmt::format("{} clusters were asked for, but the {} rows hold only {} different {}: ask for at most {} "
                            "clusters, or collect more rows",
                            k, rows, different, spherical ? "directions" : "rows", different)),
      different_(different) {}

KMeansStopped::KMeansStopped(std::int64_t start, std::int64_t iteration)
    : UserError(ExitCode::resume,
                fmt::format("k-means was asked to stop; {} iterations of start {} were handed out to go "
                            "on from",
                            iteration, start + 1)),
      start_(start),
      iteration_(iteration) {}

KMeansFit fit(const RowSource& source, const KMeansParams& params, comm::Communicator& comm, Workers& workers,
              const std::function<void(const KMeansIteration&)>& on_iteration) {
  return fit(source, params, comm, workers, KMeansHooks{.on_iteration = on_iteration});
}

KMeansFit fit(const RowSource& source, const KMeansParams& params, comm::Communicator& comm, Workers& workers,
              const KMeansHooks& hooks) {
  check(params);
  const bool draws = params.init != KMeansInit::given;
  RowSurvey survey = survey_rows(source, draws ? std::max(params.init_sample, params.k) : 0, params.spherical,
                                 params.seed, comm, workers);
  const RowSurvey facts = {.rows = survey.rows,
                           .weight = survey.weight,
                           .dimension = survey.dimension,
                           .squares = survey.squares,
                           .largest = survey.largest};
  std::vector<float> given;
  if (!draws) {
    check_given(params, facts.dimension);
    given = on_the_grid(params.initial, "the initial");
  }
  const KMeansState* resumed = hooks.resume_from;
  if (resumed) check_state(*resumed, params, facts.dimension);
  CentroidSeeder seeder(source, params, std::move(survey), comm, workers);
  const std::int64_t starts = draws ? params.n_init : 1;
  KMeansFit best;
  KMeansState state;
  for (std::int64_t start = resumed ? resumed->start : 0; start < starts; ++start) {
    const bool goes_on = resumed && start == resumed->start;
    if (goes_on) {
      state = *resumed;
      if (!state.best.empty()) {
        best = only_assign(source, params, facts, comm, workers, hooks, state.best, state.best_prices);
        best.model.history = state.best_history;
        best.model.converged = state.best_converged;
        best.model.empty_refilled = state.best_refilled;
      }
    } else {
      state = {.start = start,
               .centroids = draws ? seeder.draw(start) : given,
               .best = best.model.centroids,
               .best_history = best.model.history,
               .best_converged = best.model.converged,
               .best_refilled = best.model.empty_refilled,
               .best_prices = best.model.prices};
    }
    Lloyd lloyd(source, params, facts, comm, workers, hooks);
    if (!goes_on) lloyd.begin(state);
    KMeansFit next = lloyd.run(std::move(state));
    if (best.model.k == 0 || next.model.inertia < best.model.inertia) best = std::move(next);
  }
  return best;
}

std::vector<std::int32_t> predict(const KMeansModel& model, const RowSource& source, bool spherical, Workers& workers) {
  std::vector<std::int32_t> labels(static_cast<std::size_t>(source.local_rows()));
  if (labels.empty()) return labels;
  if (source.dimension() != model.dimension) {
    fail(ExitCode::input, "rows of dimension {} cannot be given to clusters of dimension {}", source.dimension(),
         model.dimension);
  }
  const std::vector<float> centroids = on_the_grid(model.centroids, "the clusters'");
  const NearestCentroids nearest(centroids, model.k, model.dimension, {}, model.prices);
  struct Bench {
    NearestScratch scratch;
    std::vector<float> row;
    std::vector<RoundedRow> rounded;
  };
  std::vector<Bench> benches(
      static_cast<std::size_t>(workers.size()),
      Bench{NearestScratch(model.k, model.dimension, kTileRows), std::vector<float>(source.dimension()), {}});
  TilePass(source, workers).run([&](const TileView& tile, int worker) {
    Bench& bench = benches[static_cast<std::size_t>(worker)];
    bench.rounded.resize(static_cast<std::size_t>(tile.count));
    for (std::int64_t i = 0; i < tile.count; ++i) {
      RoundedRow& out = bench.rounded[static_cast<std::size_t>(i)];
      bool finite = true;
      if (spherical) {
        prepare_rows(tile.row(i), tile.dimension, true, bench.row);
        finite = nearest.round(bench.row, bench.scratch, i, out);
      } else {
        finite = nearest.round(tile.row(i), bench.scratch, i, out);
      }
      if (!finite) largest_magnitude(tile.row(i), tile.dimension, tile.first_global + i);
    }
    nearest.all_scores(bench.rounded, bench.scratch, [&](std::size_t i, const NearestCentroids::RowScores& scores) {
      std::int32_t label = scores.label;
      tile.prefetch(static_cast<std::int64_t>(i), tile.count);
      if (label < 0) {
        prepare_rows(tile.row(static_cast<std::int64_t>(i)), tile.dimension, spherical, bench.row);
        label = nearest.decide(bench.row, scores.candidates, bench.scratch);
      }
      labels[static_cast<std::size_t>(tile.first_local) + i] = label;
    });
  });
  return labels;
}

}  // namespace moextract::cluster
