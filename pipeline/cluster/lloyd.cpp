#include "cluster/lloyd.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "cluster/centroid_grid.h"
#include "cluster/double_double.h"
#include "cluster/farthest_rows.h"
#include "cluster/host_pass.h"
#include "cluster/movement.h"
#include "cluster/nearest.h"
#include "core/error.h"

namespace moextract::cluster {
namespace {

// Refilling a cluster that the last pass left empty may empty another one; it seldom takes more than one round.
constexpr int kFinalRefills = 16;

// Rows are longer than 0 unless all their values are 0, in which case any direction is as good as another.
float largest_value(const KMeansParams& params, const RowSurvey& survey) {
  return params.spherical ? 1.0f : survey.largest;
}

PassFacts facts_of(const KMeansParams& params, const RowSurvey& survey) {
  return {.k = params.k,
          .dimension = survey.dimension,
          .total_rows = std::max(survey.rows, survey.weight),
          .largest = largest_value(params, survey),
          .spherical = params.spherical,
          .has_prices = params.balance > 0};
}

std::unique_ptr<LloydPass> make_pass(const RowSource& source, const KMeansParams& params, const RowSurvey& survey,
                                     Workers& workers, const KMeansHooks& hooks) {
  const PassFacts facts = facts_of(params, survey);
  if (hooks.make_pass) return hooks.make_pass(source, facts, workers);
  return std::make_unique<HostPass>(source, facts, workers, params.bounds_bytes, params.rounded_bytes);
}

}  // namespace

Lloyd::Lloyd(const RowSource& source, const KMeansParams& params, const RowSurvey& survey, comm::Communicator& comm,
             Workers& workers, const KMeansHooks& hooks)
    : params_(params),
      comm_(comm),
      hooks_(hooks),
      weight_(survey.weight),
      dimension_(survey.dimension),
      squares_(survey.squares),
      workers_(workers),
      rows_(source, workers),
      layout_(facts_of(params, survey)),
      pass_(make_pass(source, params, survey, workers, hooks)),
      balancer_(params.k, params.balance),
      words_(layout_.size() + extra_count) {}

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
  model.balanced = balancer_.is_even(assignment.weights);

  model.prices = balancer_.prices();
  model.sizes = std::move(assignment.sizes);
  model.inertia = assignment.inertia;
  model.centroids = std::move(centroids);
  return {std::move(model), labels()};
}

// Centroids stay, prices change, until the largest cluster is within its limit and none is empty that was not before.
void Lloyd::balance(std::span<const float> centroids, Assignment& assignment) {
  constexpr int kPasses = 100;
  const auto unevenness = [&] {
    return std::pair{std::count(assignment.weights.begin(), assignment.weights.end(), 0),
                     *std::max_element(assignment.weights.begin(), assignment.weights.end())};
  };
  auto now = unevenness(), least = now;
  const auto empty_before = now.first;
  std::vector<double> best = balancer_.prices();
  for (int pass = 0; pass < kPasses; ++pass) {
    if (now.first <= empty_before && balancer_.is_even(assignment.weights)) return;
    if (now < least) {
      least = now;
      best = balancer_.prices();
    }
    balancer_.update(assignment.weights, assignment.inertia / static_cast<double>(weight_));
    assignment = assign(centroids);
    now = unevenness();
  }
  if (now <= least) return;
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
  return {std::move(model), labels()};
}

Lloyd::Assignment Lloyd::assign(std::span<const float> centroids) {
  const auto k = static_cast<std::size_t>(params_.k);
  const auto words = std::span(words_);
  const auto extra = words.subspan(layout_.size(), extra_count);
  if (centre_.empty()) {
    centre_.resize(static_cast<std::size_t>(dimension_));
    for (std::size_t j = 0; j < centre_.size(); ++j) {
      double sum = 0;
      for (std::size_t c = 0; c < k; ++c) sum += static_cast<double>(centroids[c * centre_.size() + j]);
      centre_[j] = to_centroid_grid(sum / static_cast<double>(k));
    }
  }
  const NearestCentroids nearest(centroids, params_.k, dimension_, centre_, balancer_.prices());
  // A failure travels in the reduction itself: one collective an iteration, and still no rank waits for one that left.
  std::exception_ptr error = callback_error_;
  try {
    pass_->run(nearest);
  } catch (...) {
    if (!error) error = std::current_exception();
  }
  extra[failures] = error ? 1 : 0;
  extra[stop_requests] = asked_to_stop() ? 1 : 0;
  pass_->reduce(words, comm_);
  if (extra[failures] > 0) comm_.agree(error);

  Assignment assignment;
  const auto sizes = layout_.sizes_of(words), weights = layout_.weights_of(words);
  assignment.sizes.assign(sizes.begin(), sizes.end());
  assignment.weights.assign(weights.begin(), weights.end());
  assignment.inertia = inertia_of(nearest, centroids, weights);
  assignment.moved = layout_.moved_of(words);
  assignment.stop = extra[stop_requests] > 0;
  return assignment;
}

// Sum over the rows of |x - c|^2 = |x|^2 - 2 x.c + |c|^2, from the exact sums of |x|^2 and x. The products of the sums
// and the centroids are integers below 2^127, so that only the k + 1 terms left are rounded, to 106 bits.
double Lloyd::inertia_of(const NearestCentroids& nearest, std::span<const float> centroids,
                         std::span<const std::int64_t> weights) const {
  const auto sums = std::span<const std::int64_t>(words_).first(layout_.sums().words());
  DoubleDouble total = DoubleDouble::of(squares_) * 0x1.0p-48;
  for (std::int64_t c = 0; c < params_.k; ++c) {
    __int128 high = 0, low = 0;
    for (std::int64_t j = 0; j < dimension_; ++j) {
      const std::int64_t value = centroid_to_fixed(centroids[static_cast<std::size_t>(c * dimension_ + j)]);
      const auto [high_sum, low_sum] = layout_.sums().parts(sums, c, j);
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
  const auto sums = std::span<const std::int64_t>(words_).first(layout_.sums().words());
  std::vector<double> mean(static_cast<std::size_t>(dimension_));
  for (std::int64_t c = 0; c < params_.k; ++c) {
    const std::int64_t weight = assignment.weights[static_cast<std::size_t>(c)];
    if (weight == 0) continue;
    double squares = 0;
    for (std::int64_t j = 0; j < dimension_; ++j) {
      mean[j] = layout_.sums().mean(sums, c, j, weight);
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
      farthest_rows(rows_, panels, pass_->labels(), dimension_, params_.spherical, empty, comm_, workers_.size());
  std::size_t next = 0;
  for (std::int64_t c = 0; c < params_.k && next < rows.size(); ++c) {
    if (assignment.weights[static_cast<std::size_t>(c)] > 0) continue;
    std::copy(rows[next].values.begin(), rows[next].values.end(), centroids.begin() + c * dimension_);
    ++next;
  }
  return static_cast<std::int64_t>(next);
}

std::vector<std::int32_t> Lloyd::labels() {
  const auto labels = pass_->labels();
  return {labels.begin(), labels.end()};
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
