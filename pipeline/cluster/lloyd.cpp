#include "cluster/lloyd.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "cluster/centroid_grid.h"
#include "cluster/double_double.h"
#include "cluster/farthest_rows.h"
#include "core/error.h"

namespace moextract::cluster {
namespace {

// Refilling a cluster that the last pass left empty may empty another one; it seldom takes more than one round.
constexpr int kFinalRefills = 16;

// Rows of a tile of the assignment: as many as a core's cache holds with a panel of centroids, so that several of them
// that move to one cluster are added to its sums together.
constexpr std::int64_t kAssignedRows = 192;

double distance(std::span<const float> a, std::span<const float> b) {
  double squares = 0;
  for (std::size_t j = 0; j < a.size(); ++j) {
    const double difference = static_cast<double>(a[j]) - static_cast<double>(b[j]);
    squares += difference * difference;
  }
  return std::sqrt(squares);
}

std::vector<double> movements(std::span<const float> before, std::span<const float> after, std::int64_t k) {
  const std::size_t d = before.size() / static_cast<std::size_t>(k);
  std::vector<double> all;
  for (std::size_t first = 0; first < before.size(); first += d) {
    all.push_back(distance(before.subspan(first, d), after.subspan(first, d)));
  }
  return all;
}

// Rows are longer than 0 unless all their values are 0, in which case any direction is as good as another.
float largest_value(const KMeansParams& params, const RowSurvey& survey) {
  return params.spherical ? 1.0f : survey.largest;
}

}  // namespace

Lloyd::Bench::Bench(std::int64_t k, std::int64_t dimension)
    : assigner(k, dimension, kAssignedRows), sizes(static_cast<std::size_t>(k)), weights(static_cast<std::size_t>(k)) {}

Lloyd::Lloyd(const RowSource& source, const KMeansParams& params, const RowSurvey& survey, comm::Communicator& comm,
             Workers& workers, const KMeansHooks& hooks)
    : source_(source),
      params_(params),
      comm_(comm),
      hooks_(hooks),
      rows_(survey.rows),
      weight_(survey.weight),
      dimension_(survey.dimension),
      squares_(survey.squares),
      workers_(workers),
      pass_(source, workers, kAssignedRows),
      small_pass_(source, workers),
      sums_(params.k, survey.dimension, std::max(survey.rows, survey.weight), largest_value(params, survey),
            workers.size()),
      bounds_(source.local_rows(), params.k, params.balance > 0 ? 0 : params.bounds_bytes),
      rounded_(source.local_rows(), survey.dimension, params.rounded_bytes),
      balancer_(params.k, params.balance),
      labels_(static_cast<std::size_t>(source.local_rows()), -1),
      benches_(static_cast<std::size_t>(workers.size()), Bench(params.k, survey.dimension)) {
  words_.resize(sums_.words() + static_cast<std::size_t>(2 * params.k) + extra_count);
}

void Lloyd::begin(const KMeansState& state) {
  const bool stop =
      hooks_.should_stop && comm_.all_reduce_value<std::int32_t>(asked_to_stop() ? 1 : 0, comm::Reduction::max) > 0;
  hand_out(state, stop);
}

KMeansFit Lloyd::run(KMeansState state) {
  KMeansModel model;
  model.k = params_.k;
  model.dimension = dimension_;
  model.history = std::move(state.history);
  model.empty_refilled = state.empty_refilled;
  model.converged = state.converged;
  Assignment assignment;
  bool labels_are_final = false;
  std::vector<float>& centroids = state.centroids;
  // Resumed: the labels of the iteration before, so that the statistics count the same rows as moved.
  if (!state.previous.empty()) {
    balancer_.restore_previous(state.balancer);
    assign(state.previous);
    balancer_.restore(state.balancer);
  }

  for (std::int64_t number = state.iteration + 1; number <= params_.max_iterations && !model.converged; ++number) {
    const auto start = std::chrono::steady_clock::now();
    assignment = assign(centroids);
    std::vector<float> moved_centroids = means(centroids, assignment);
    model.empty_refilled += refill_empty(centroids, assignment, moved_centroids);
    const bool even = balancer_.is_even(assignment.weights);
    balancer_.update(assignment.weights, assignment.inertia / static_cast<double>(weight_));
    const auto [smallest, largest] = std::minmax_element(assignment.sizes.begin(), assignment.sizes.end());
    const std::vector<double> shifts = movements(centroids, moved_centroids, params_.k);
    const KMeansIteration iteration{
        .iteration = number,
        .inertia = assignment.inertia,
        .shift = *std::max_element(shifts.begin(), shifts.end()),
        .moved = assignment.moved,
        .smallest = *smallest,
        .largest = *largest,
        .seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()};
    // Decided from reduced numbers only, so all ranks stop together.
    const bool at_rest =
        iteration.shift <= params_.tolerance * std::sqrt(assignment.inertia / static_cast<double>(weight_)) ||
        (params_.inertia_tolerance > 0 && !model.history.empty() &&
         model.history.back().inertia - iteration.inertia <= params_.inertia_tolerance * iteration.inertia);
    model.converged = at_rest && even;
    labels_are_final = moved_centroids == centroids && !balancer_.is_on();
    state.previous = std::exchange(centroids, std::move(moved_centroids));
    model.history.push_back(iteration);
    report(iteration);
    if (hooks_.on_state || assignment.stop) {
      state.iteration = number;
      state.history = model.history;
      state.empty_refilled = model.empty_refilled;
      state.converged = model.converged;
      state.balancer = balancer_.state();
      hand_out(state, assignment.stop);
    }
  }

  for (int round = 0; !labels_are_final; ++round) {
    assignment = assign(centroids);
    if (round == kFinalRefills) break;
    const std::vector<float> assigned_to = centroids;
    const std::int64_t refilled = refill_empty(assigned_to, assignment, centroids);
    model.empty_refilled += refilled;
    labels_are_final = refilled == 0;
  }
  if (balancer_.is_on()) balance(centroids, assignment);
  comm_.agree(callback_error_);

  model.prices = balancer_.prices();
  model.sizes = std::move(assignment.sizes);
  model.inertia = assignment.inertia;
  model.centroids = std::move(centroids);
  return {std::move(model), labels_};
}

// Centroids stay, prices change, until the largest cluster is within its limit.
void Lloyd::balance(std::span<const float> centroids, Assignment& assignment) {
  constexpr int kPasses = 100;
  std::int64_t least = 0;
  std::vector<double> best;
  for (int pass = 0; pass < kPasses && !balancer_.is_even(assignment.weights); ++pass) {
    const std::int64_t largest = *std::max_element(assignment.weights.begin(), assignment.weights.end());
    if (best.empty() || largest < least) {
      least = largest;
      best = balancer_.prices();
    }
    balancer_.update(assignment.weights, assignment.inertia / static_cast<double>(weight_));
    assignment = assign(centroids);
  }
  if (best.empty() || *std::max_element(assignment.weights.begin(), assignment.weights.end()) <= least) return;
  balancer_.set_prices(best);
  assignment = assign(centroids);
}

KMeansFit Lloyd::only_assign(const std::vector<float>& centroids, const std::vector<double>& prices) {
  if (!prices.empty()) balancer_.set_prices(prices);
  Assignment assignment = assign(centroids);
  KMeansModel model;
  model.k = params_.k;
  model.dimension = dimension_;
  model.centroids = centroids;
  model.sizes = std::move(assignment.sizes);
  model.inertia = assignment.inertia;
  model.prices = prices;
  return {std::move(model), labels_};
}

Lloyd::Assignment Lloyd::assign(std::span<const float> centroids) {
  const auto k = static_cast<std::size_t>(params_.k);
  const auto words = std::span(words_);
  const auto sizes = words.subspan(sums_.words(), k);
  const auto weights = words.subspan(sums_.words() + k, k);
  const auto extra = words.subspan(sums_.words() + 2 * k, extra_count);
  std::fill(words.begin(), words.end(), 0);

  if (centre_.empty()) {
    centre_.resize(static_cast<std::size_t>(dimension_));
    for (std::size_t j = 0; j < centre_.size(); ++j) {
      double sum = 0;
      for (std::size_t c = 0; c < k; ++c) sum += static_cast<double>(centroids[c * centre_.size() + j]);
      centre_[j] = to_centroid_grid(sum / static_cast<double>(k));
    }
  }
  const NearestCentroids nearest(centroids, params_.k, dimension_, centre_, balancer_.prices());
  if (!assigned_to_.empty()) {
    std::vector<double> moved = movements(assigned_to_, centroids, params_.k);
    for (double& length : moved) length *= 1 + 1e-9;
    bounds_.move(moved);
  }
  if (!bounds_.is_filled()) bounds_.start(nearest.spread());

  // A failure travels in the reduction itself: one collective an iteration, and still no rank waits for one that left.
  std::exception_ptr error = callback_error_;
  try {
    pass_over_rows(nearest, sizes, weights, extra[rows_moved]);
    sums_.total(words.first(sums_.words()));
  } catch (...) {
    if (!error) error = std::current_exception();
  }
  extra[failures] = error ? 1 : 0;
  extra[stop_requests] = asked_to_stop() ? 1 : 0;
  comm_.all_reduce(words, comm::Reduction::sum);
  if (extra[failures] > 0) comm_.agree(error);
  bounds_.finish();
  rounded_.finish();
  assigned_to_.assign(centroids.begin(), centroids.end());

  Assignment assignment;
  assignment.sizes.assign(sizes.begin(), sizes.end());
  assignment.weights.assign(weights.begin(), weights.end());
  assignment.inertia = inertia_of(nearest, centroids, weights);
  assignment.moved = extra[rows_moved];
  assignment.stop = extra[stop_requests] > 0;
  return assignment;
}

void Lloyd::pass_over_rows(const NearestCentroids& nearest, std::span<std::int64_t> sizes,
                           std::span<std::int64_t> weights, std::int64_t& moved) {
  for (Bench& bench : benches_) {
    std::fill(bench.sizes.begin(), bench.sizes.end(), 0);
    std::fill(bench.weights.begin(), bench.weights.end(), 0);
    bench.moved = 0;
  }
  pass_.run([&](const TileView& tile, int worker) { assign_tile(nearest, tile, worker); });
  for (const Bench& bench : benches_) {
    for (std::size_t c = 0; c < sizes.size(); ++c) {
      sizes[c] += bench.sizes[c];
      weights[c] += bench.weights[c];
    }
    moved += bench.moved;
  }
}

void Lloyd::assign_tile(const NearestCentroids& nearest, const TileView& tile, int worker) {
  Bench& bench = benches_[static_cast<std::size_t>(worker)];
  const RowMemory memory{bounds_, rounded_, params_.spherical, workers_.size() * kAssignedRows};
  const auto before =
      std::span(labels_).subspan(static_cast<std::size_t>(tile.first_local), static_cast<std::size_t>(tile.count));
  const std::span<const std::int32_t> labels = bench.assigner.assign(nearest, tile, before, memory);
  bench.moves.clear();
  for (std::int64_t i = 0; i < tile.count; ++i) settle(tile, i, labels[static_cast<std::size_t>(i)], worker);
  add_moves(tile, worker);
}

// The tile's moves, cluster by cluster.
void Lloyd::add_moves(const TileView& tile, int worker) {
  Bench& bench = benches_[static_cast<std::size_t>(worker)];
  std::sort(bench.moves.begin(), bench.moves.end(),
            [](const Bench::Move& a, const Bench::Move& b) { return a.cluster < b.cluster; });
  for (std::size_t n = 0; n < bench.moves.size();) {
    const std::int32_t cluster = bench.moves[n].cluster;
    bench.moved_rows.clear();
    bench.signs.clear();
    for (; n < bench.moves.size() && bench.moves[n].cluster == cluster; ++n) {
      bench.moved_rows.push_back(tile.row(bench.moves[n].i).data());
      bench.signs.push_back(bench.moves[n].sign);
    }
    sums_.add(worker, cluster, bench.moved_rows, bench.signs);
  }
  bench.moves.clear();
}

void Lloyd::settle(const TileView& tile, std::int64_t i, std::int32_t label, int worker) {
  Bench& bench = benches_[static_cast<std::size_t>(worker)];
  std::int32_t& before = labels_[static_cast<std::size_t>(tile.first_local + i)];
  const std::int64_t weight = tile.weight(i);
  ++bench.sizes[static_cast<std::size_t>(label)];
  bench.weights[static_cast<std::size_t>(label)] += weight;
  if (label == before) return;
  if (weight == 1 && !params_.spherical && !sums_.split()) {
    bench.moves.push_back({label, 1, i});
    if (before >= 0) bench.moves.push_back({before, -1, i});
  } else if (weight > 0) {
    sums_.move(worker, bench.assigner.prepared_row(tile, i, params_.spherical), before, label, weight);
  }
  before = label;
  ++bench.moved;
}

// Sum over the rows of |x - c|^2 = |x|^2 - 2 x.c + |c|^2, from the exact sums of |x|^2 and x. The products of the sums
// and the centroids are integers below 2^127, so that only the k + 1 terms left are rounded, to 106 bits.
double Lloyd::inertia_of(const NearestCentroids& nearest, std::span<const float> centroids,
                         std::span<const std::int64_t> weights) const {
  const auto sums = std::span(words_).first(sums_.words());
  DoubleDouble total = DoubleDouble::of(squares_) * 0x1.0p-48;
  for (std::int64_t c = 0; c < params_.k; ++c) {
    __int128 high = 0, low = 0;
    for (std::int64_t j = 0; j < dimension_; ++j) {
      const std::int64_t value = centroid_to_fixed(centroids[static_cast<std::size_t>(c * dimension_ + j)]);
      const auto [high_sum, low_sum] = sums_.parts(sums, c, j);
      high += static_cast<__int128>(high_sum) * value;
      low += static_cast<__int128>(low_sum) * value;
    }
    const DoubleDouble products = DoubleDouble::of(high) * 0x1.0p20 + DoubleDouble::of(low);
    const DoubleDouble squares = DoubleDouble::of(nearest.exact_squares(c)) * 0x1.0p-72;
    total = total + squares * static_cast<double>(weights[static_cast<std::size_t>(c)]) - products * 0x1.0p-59;
  }
  return std::max(0.0, total.value());
}

std::vector<float> Lloyd::means(std::span<const float> previous, const Assignment& assignment) const {
  std::vector<float> centroids(previous.begin(), previous.end());
  const auto sums = std::span(words_).first(sums_.words());
  std::vector<double> mean(static_cast<std::size_t>(dimension_));
  for (std::int64_t c = 0; c < params_.k; ++c) {
    const std::int64_t weight = assignment.weights[static_cast<std::size_t>(c)];
    if (weight == 0) continue;
    double squares = 0;
    for (std::int64_t j = 0; j < dimension_; ++j) {
      mean[j] = sums_.mean(sums, c, j, weight);
      squares += mean[j] * mean[j];
    }
    if (params_.spherical) {
      if (squares == 0) continue;  // directions that cancel have no mean direction: the centroid stays
      const double length = std::sqrt(squares);
      for (double& value : mean) value /= length;
    }
    std::transform(mean.begin(), mean.end(), centroids.begin() + c * dimension_, to_centroid_grid);
  }
  return centroids;
}

std::int64_t Lloyd::refill_empty(std::span<const float> assigned_to, const Assignment& assignment,
                                 std::span<float> centroids) {
  const auto empty = std::count(assignment.weights.begin(), assignment.weights.end(), 0);
  if (empty == 0 || params_.empty == EmptyClusters::keep) return 0;
  if (params_.empty == EmptyClusters::refuse) {
    fail(
        ExitCode::numerics,
        "k-means: {} of {} clusters ran empty: ask for fewer clusters, start from other centroids (seed), or set empty "
        "to farthest or keep",
        empty, params_.k);
  }
  const CentroidPanels panels(assigned_to, params_.k, dimension_);
  const auto rows =
      farthest_rows(small_pass_, panels, labels_, dimension_, params_.spherical, empty, comm_, workers_.size());
  std::size_t next = 0;
  for (std::int64_t c = 0; c < params_.k && next < rows.size(); ++c) {
    if (assignment.weights[static_cast<std::size_t>(c)] > 0) continue;
    std::copy(rows[next].values.begin(), rows[next].values.end(), centroids.begin() + c * dimension_);
    ++next;
  }
  return static_cast<std::int64_t>(next);
}

void Lloyd::report(const KMeansIteration& iteration) {
  if (!hooks_.on_iteration || !comm_.is_root() || callback_error_) return;
  try {
    hooks_.on_iteration(iteration);
  } catch (...) {
    callback_error_ = std::current_exception();
  }
}

void Lloyd::hand_out(const KMeansState& state, bool stopping) {
  if (hooks_.on_state && comm_.is_root() && !callback_error_) {
    try {
      hooks_.on_state(state, stopping);
    } catch (...) {
      callback_error_ = std::current_exception();
    }
  }
  if (!stopping) return;
  comm_.agree(callback_error_);
  throw KMeansStopped(state.start, state.iteration);
}

}  // namespace moextract::cluster
