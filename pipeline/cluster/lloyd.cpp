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
    : scratch(k, dimension, kTileRows),
      row(static_cast<std::size_t>(dimension)),
      ids(static_cast<std::size_t>(k + 2 * kPanelCentroids)),
      ranges(static_cast<std::size_t>(k + 1)),
      sizes(static_cast<std::size_t>(k)),
      weights(static_cast<std::size_t>(k)) {}

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
      pass_(source, workers),
      sums_(params.k, survey.dimension, std::max(survey.rows, survey.weight), largest_value(params, survey),
            workers.size()),
      bounds_(source.local_rows(), params.k, params.balance > 0 ? 0 : params.bounds_bytes),
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
  bench.rounded.clear();
  bench.places.clear();
  for (std::int64_t i = 0; i < tile.count; ++i) {
    if (bounds_.is_filled()) tile.prefetch(i, 4);
    if (bounds_.is_filled() && decide_by_bounds(nearest, tile, i, worker)) continue;
    if (!bounds_.is_filled()) bench.rounded.push_back(rounded_row(nearest, tile, i, i, bench));
    bench.places.push_back(i);
  }
  nearest.all_scores(bench.rounded, bench.scratch, [&](std::size_t n, const NearestCentroids::RowScores& scores) {
    const std::int64_t i = bench.places[n], local = tile.first_local + i;
    if (!bounds_.is_filled()) tile.prefetch(i, tile.count);
    const std::int32_t label = scores.label >= 0
                                   ? scores.label
                                   : nearest.decide(prepared_row(tile, i, bench), scores.candidates, bench.scratch);
    if (bounds_.is_on()) {
      bounds_.set_all(local, bench.rounded[n], scores.lower);
      bounds_.set_own(local, label, bench.rounded[n], scores.upper[static_cast<std::size_t>(label)]);
    }
    settle(tile, i, label, worker);
  });
}

// False if all centroids have to be looked at; the row then stands rounded in the bench.
bool Lloyd::decide_by_bounds(const NearestCentroids& nearest, const TileView& tile, std::int64_t i, int worker) {
  Bench& bench = benches_[static_cast<std::size_t>(worker)];
  const std::int64_t local = tile.first_local + i;
  const std::int32_t before = labels_[static_cast<std::size_t>(local)];
  // Room for the row's own cluster in front.
  const std::span<std::int32_t> ids = std::span(bench.ids).subspan(1);
  std::int64_t count = bounds_.suspects(local, before, ids);
  if (count == 0) {
    settle(tile, i, before, worker);
    return true;
  }
  const RoundedRow row = rounded_row(nearest, tile, i, i, bench);
  if (2 * count > params_.k) {
    bench.rounded.push_back(row);
    return false;
  }
  ScoreRange own;
  nearest.some_scores(row, std::span(&before, 1), bench.scratch, std::span(&own, 1));
  bounds_.set_own(local, before, row, own.upper);
  count = bounds_.still_suspect(local, before, ids.first(static_cast<std::size_t>(count)));
  if (count == 0) {
    settle(tile, i, before, worker);
    return true;
  }
  const auto suspects = ids.first(static_cast<std::size_t>(count));
  const auto ranges = std::span(bench.ranges).first(static_cast<std::size_t>(count));
  nearest.some_scores(row, suspects, bench.scratch, ranges);
  float best = own.upper;
  for (std::size_t n = 0; n < ranges.size(); ++n) {
    bounds_.set_other(local, suspects[n], row, ranges[n].lower);
    best = std::min(best, ranges[n].upper);
  }
  // Those that may be nearest, ascending, with their upper bounds; written over the suspects, from one place before.
  std::size_t left = 0;
  bool own_is_in = !(own.lower <= best);
  float upper = 0;
  const auto take = [&](std::int32_t c, float its_upper) {
    bench.ids[left++] = c;
    upper = its_upper;
  };
  for (std::size_t n = 0; n < ranges.size(); ++n) {
    const std::int32_t c = suspects[n];
    const ScoreRange range = ranges[n];
    if (!own_is_in && before < c) {
      take(before, own.upper);
      own_is_in = true;
    }
    if (range.lower <= best) take(c, range.upper);
  }
  if (!own_is_in) take(before, own.upper);
  std::int32_t label = bench.ids[0];
  if (left > 1) {
    label = nearest.decide(prepared_row(tile, i, bench), std::span(bench.ids).first(left), bench.scratch);
    if (label != before) {
      // The suspects were written over: ask again for the one that is needed.
      ScoreRange range;
      nearest.some_scores(row, std::span(&label, 1), bench.scratch, std::span(&range, 1));
      upper = range.upper;
    }
  }
  if (label != before) {
    bounds_.set_other(local, before, row, own.lower);
    bounds_.set_own(local, label, row, upper);
  }
  settle(tile, i, label, worker);
  return true;
}

RoundedRow Lloyd::rounded_row(const NearestCentroids& nearest, const TileView& tile, std::int64_t i, std::int64_t slot,
                              Bench& bench) const {
  RoundedRow row;
  const bool finite = params_.spherical ? nearest.round(prepared_row(tile, i, bench), bench.scratch, slot, row)
                                        : nearest.round(tile.row(i), bench.scratch, slot, row);
  if (!finite) {
    largest_magnitude(tile.row(i), dimension_, tile.first_global + i);
    MOEX_ASSERT(finite, "a finite row has no finite length");
  }
  return row;
}

std::span<const float> Lloyd::prepared_row(const TileView& tile, std::int64_t i, Bench& bench) const {
  prepare_rows(tile.row(i), dimension_, params_.spherical, bench.row);
  return bench.row;
}

void Lloyd::settle(const TileView& tile, std::int64_t i, std::int32_t label, int worker) {
  Bench& bench = benches_[static_cast<std::size_t>(worker)];
  std::int32_t& before = labels_[static_cast<std::size_t>(tile.first_local + i)];
  const std::int64_t weight = tile.weight(i);
  ++bench.sizes[static_cast<std::size_t>(label)];
  bench.weights[static_cast<std::size_t>(label)] += weight;
  if (label == before) return;
  if (weight > 0) sums_.move(worker, prepared_row(tile, i, bench), before, label, weight);
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
  const auto rows = farthest_rows(pass_, panels, labels_, dimension_, params_.spherical, empty, comm_, workers_.size());
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
