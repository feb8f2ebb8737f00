#include "cluster/hdbscan.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <span>
#include <utility>

#include "cluster/distances.h"
#include "cluster/hdbscan_predictor.h"
#include "cluster/hdbscan_sample.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/random.h"

namespace moextract::cluster::hdbscan {
namespace {

class Stopwatch {
 public:
  double lap() {
    const auto now = std::chrono::steady_clock::now();
    return std::chrono::duration<double>(now - std::exchange(last_, now)).count();
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

void require_at_least(std::int64_t value, std::int64_t least, const char* name) {
  if (value < least) fail(ExitCode::config, "HDBSCAN: {} is {}, but must be at least {}", name, value, least);
}

void check(const Params& params) {
  require_at_least(params.min_cluster_size, 2, "min_cluster_size");
  require_at_least(params.min_samples, 0, "min_samples");
  require_at_least(params.max_cluster_size, 0, "max_cluster_size");
  require_at_least(params.pca_components, 0, "pca_components");
  require_at_least(params.sample_rows, 1, "sample_rows");
  if (params.sample_rows > std::numeric_limits<std::int32_t>::max() / 4) {
    fail(ExitCode::config, "HDBSCAN: sample_rows is {}, but at most 2^29 rows can be clustered", params.sample_rows);
  }
  if (!(params.cluster_selection_epsilon >= 0) || std::isinf(params.cluster_selection_epsilon)) {
    fail(ExitCode::config, "HDBSCAN: cluster_selection_epsilon is {}, but must be a distance, 0 or more",
         params.cluster_selection_epsilon);
  }
  if (!(params.alpha > 0) || std::isinf(params.alpha)) {
    fail(ExitCode::config, "HDBSCAN: alpha is {}, but must be greater than 0", params.alpha);
  }
}

// Lists a little longer than the core distances need let fewer rows be searched for.
constexpr std::int64_t kSpareNeighbours = 4;
constexpr std::int64_t kLeastNeighbours = 16;

// Everything from `points` on. Collective.
void fit_points(Model& model, FitTimes& times, comm::Communicator& comm, Workers& workers, const Hooks& hooks) {
  Stopwatch watch;
  const std::int64_t n = model.rows();
  const std::int64_t wanted = model.params.min_samples > 0 ? model.params.min_samples : model.params.min_cluster_size;
  model.min_samples = std::max<std::int64_t>(std::min(wanted, n - 1), 1);

  const FastRows fast = make_fast_rows(model.points, mean_row(model.points, model.dimension), workers);
  NeighbourLists lists;
  {
    std::vector<std::int32_t> all(static_cast<std::size_t>(n));
    std::iota(all.begin(), all.end(), 0);
    const Panels panels(fast, all, workers);
    const std::int64_t length = std::max(model.min_samples + kSpareNeighbours, kLeastNeighbours);
    lists = nearest_neighbours(model.points, fast, panels, length, comm, workers, hooks.should_stop);
  }
  model.core = core_distances(lists, model.min_samples);
  model.predict_core =
      model.min_samples > 1 ? core_distances(lists, model.min_samples - 1) : std::vector<double>(model.core.size(), 0);
  times.neighbours = watch.lap();

  const MutualReachability reach{model.points, model.dimension, model.core, model.params.alpha};
  model.spanning_tree = minimum_spanning_tree(reach, fast, lists, comm, workers, &model.effort, hooks.should_stop);
  times.spanning_tree = watch.lap();

  model.linkage = single_linkage(model.spanning_tree);
  model.condensed = condense(model.linkage, model.params.min_cluster_size);
  if (n < model.params.min_cluster_size) {
    model.clusters.labels.assign(static_cast<std::size_t>(n), -1);
    model.clusters.probabilities.assign(static_cast<std::size_t>(n), 0);
    model.clusters.label_below.assign(1, -1);
    model.clusters.largest_lambda.assign(1, 0);
  } else {
    model.clusters = select_clusters(model.condensed, n,
                                     {.method = model.params.selection,
                                      .epsilon = model.params.cluster_selection_epsilon,
                                      .allow_single_cluster = model.params.allow_single_cluster,
                                      .max_cluster_size = model.params.max_cluster_size});
  }
  model.outlier_scores = outlier_scores(model.condensed, n);

  const auto d = static_cast<std::size_t>(model.dimension);
  std::vector<double> sums(static_cast<std::size_t>(model.k()) * d, 0.0);
  for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
    const std::int32_t label = model.clusters.labels[i];
    for (std::size_t c = 0; label >= 0 && c < d; ++c)
      sums[static_cast<std::size_t>(label) * d + c] += model.points[i * d + c];
  }
  model.centroids.resize(sums.size());
  for (std::size_t at = 0; at < sums.size(); ++at) {
    const auto size = static_cast<double>(std::max<std::int64_t>(model.clusters.sizes[at / d], 1));
    model.centroids[at] = static_cast<float>(sums[at] / size);
  }
  times.clusters = watch.lap();
}

}  // namespace

Fit fit(const RowSource& source, const Params& params, comm::Communicator& comm, Workers& workers, const Hooks& hooks) {
  check(params);
  const Leave leave(hooks.should_stop, comm);
  Stopwatch watch;
  Fit result;
  Model& model = result.model;
  model.params = params;
  {
    Sample sample = draw_sample(source, params.sample_rows, params.seed, comm);
    model.rows_in_set = sample.rows_in_set;
    model.input_dimension = model.dimension = sample.dimension;
    model.numbers = std::move(sample.numbers);
    model.points.resize(sample.bits.size());
    prepare_rows(sample.bits, sample.dimension, params.metric == Metric::cosine, model.points);
  }
  leave.ask();
  result.times.sample = watch.lap();
  if (params.pca_components > 0) {
    const bool unit_length = params.metric == Metric::cosine;
    model.pca = params.pca_rows == PcaRows::all
                    ? fit_pca(stream_row_moments(source, model.dimension, unit_length, comm, workers),
                              params.pca_components, comm)
                    : fit_pca(model.points, model.dimension, params.pca_components, comm, workers);
    model.points = project(model.pca, model.points, workers);
    model.dimension = params.pca_components;
  }
  leave.ask();
  result.times.project = watch.lap();
  fit_points(model, result.times, comm, workers, hooks);
  std::optional<Predictor> predictor;
  comm.together([&] { predictor.emplace(model, workers); });
  leave.over_rows(source.local_rows(), predictor->pause_rows(),
                  [&](const std::function<void()>& pause) { result.rows = predictor->assign(source, true, pause); });
  return result;
}

Assignment predict(const Model& model, const RowSource& source, Workers& workers) {
  return Predictor(model, workers).assign(source, false);
}

Agreement held_back_agreement(const Model& model, std::int64_t held_back, comm::Communicator& comm, Workers& workers,
                              const Hooks& hooks) {
  const std::int64_t n = model.rows();
  if (held_back < 1 || held_back >= n) {
    fail(ExitCode::config, "HDBSCAN: {} rows to be held back of a sample of {}; hold back 1 to {}", held_back, n,
         n - 1);
  }
  const std::vector<std::int64_t> held =
      RandomStream(model.params.seed, hash64("cluster.hdbscan_held_back")).sample(held_back, n);
  Model rest;
  rest.params = model.params;
  rest.rows_in_set = model.rows_in_set;
  rest.input_dimension = rest.dimension = model.dimension;
  std::vector<float> points;
  std::vector<std::int32_t> before;
  for (std::int64_t i = 0, next = 0; i < n; ++i) {
    const float* row = model.points.data() + i * model.dimension;
    if (next < held_back && held[static_cast<std::size_t>(next)] == i) {
      points.insert(points.end(), row, row + model.dimension);
      before.push_back(model.clusters.labels[static_cast<std::size_t>(i)]);
      ++next;
    } else {
      rest.points.insert(rest.points.end(), row, row + model.dimension);
      rest.numbers.push_back(model.numbers[static_cast<std::size_t>(i)]);
    }
  }
  FitTimes times;
  fit_points(rest, times, comm, workers, hooks);
  const Assignment after = Predictor(rest, workers).join_clusters(points);
  Agreement agreement;
  agreement.held_back = held_back;
  agreement.ari = adjusted_rand_index(before, after.labels);
  for (std::size_t i = 0; i < before.size(); ++i) agreement.same_noise += (before[i] < 0) == (after.labels[i] < 0);
  agreement.same_noise /= static_cast<double>(held_back);
  return agreement;
}

}  // namespace moextract::cluster::hdbscan
