#include "cluster/lloyd.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <utility>

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

double largest_shift(std::span<const float> before, std::span<const float> after, std::int64_t k) {
  const std::size_t d = before.size() / static_cast<std::size_t>(k);
  double largest = 0;
  for (std::size_t first = 0; first < before.size(); first += d) {
    largest = std::max(largest, distance(before.subspan(first, d), after.subspan(first, d)));
  }
  return largest;
}

// Rows are longer than 0 unless all their values are 0, in which case any direction is as good as another.
float largest_value(const KMeansParams& params, const RowSurvey& survey) {
  return params.spherical ? 1.0f : survey.largest;
}

}  // namespace

Lloyd::Lloyd(const RowSource& source, const KMeansParams& params, const RowSurvey& survey, comm::Communicator& comm,
             Workers& workers, const std::function<void(const KMeansIteration&)>& on_iteration)
    : params_(params),
      comm_(comm),
      on_iteration_(on_iteration),
      rows_(survey.rows),
      dimension_(survey.dimension),
      workers_(workers.size()),
      largest_(largest_value(params, survey)),
      scale_(largest_, survey.dimension),
      pass_(source, params.spherical, workers),
      sums_(params.k, survey.dimension, survey.rows, largest_, workers.size()),
      labels_(static_cast<std::size_t>(source.local_rows()), -1) {
  words_.resize(sums_.words() + static_cast<std::size_t>(params.k) + 4);
}

KMeansFit Lloyd::run(std::vector<float> centroids) {
  KMeansModel model;
  model.k = params_.k;
  model.dimension = dimension_;
  Assignment assignment;
  bool labels_are_final = false;

  for (std::int64_t number = 1; number <= params_.max_iterations && !model.converged; ++number) {
    const auto start = std::chrono::steady_clock::now();
    assignment = assign(centroids);
    std::vector<float> moved_centroids = means(centroids, assignment);
    model.empty_refilled += refill_empty(centroids, assignment, moved_centroids);
    const auto [smallest, largest] = std::minmax_element(assignment.sizes.begin(), assignment.sizes.end());
    const KMeansIteration iteration{
        .iteration = number,
        .inertia = assignment.inertia,
        .shift = largest_shift(centroids, moved_centroids, params_.k),
        .moved = assignment.moved,
        .smallest = *smallest,
        .largest = *largest,
        .seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()};
    // Decided from reduced numbers only, so all ranks stop together.
    model.converged = iteration.shift <= params_.tolerance * std::sqrt(assignment.inertia / static_cast<double>(rows_));
    labels_are_final = moved_centroids == centroids;
    centroids = std::move(moved_centroids);
    model.history.push_back(iteration);
    report(iteration);
  }

  for (int round = 0; !labels_are_final; ++round) {
    assignment = assign(centroids);
    if (round == kFinalRefills) break;
    const std::vector<float> assigned_to = centroids;
    const std::int64_t refilled = refill_empty(assigned_to, assignment, centroids);
    model.empty_refilled += refilled;
    labels_are_final = refilled == 0;
  }
  comm_.agree(callback_error_);

  model.sizes = std::move(assignment.sizes);
  model.inertia = assignment.inertia;
  model.centroids = std::move(centroids);
  return {std::move(model), labels_};
}

Lloyd::Assignment Lloyd::assign(std::span<const float> centroids) {
  const auto k = static_cast<std::size_t>(params_.k);
  const auto words = std::span(words_);
  const auto sizes = words.subspan(sums_.words(), k);
  const auto rest = words.subspan(sums_.words() + k, 4);
  std::fill(words.begin(), words.end(), 0);

  // A failure travels in the reduction itself: one collective an iteration, and still no rank waits for one that left.
  std::exception_ptr error = callback_error_;
  try {
    const CentroidPanels panels(centroids, params_.k, dimension_);
    __int128 squares = 0;
    pass_over_rows(panels, sizes, rest[2], squares);
    DistanceScale::split(squares, rest[0], rest[1]);
    sums_.total(words.first(sums_.words()));
  } catch (...) {
    if (!error) error = std::current_exception();
  }
  rest[3] = error ? 1 : 0;
  comm_.all_reduce(words, comm::Reduction::sum);
  if (rest[3] > 0) comm_.agree(error);

  Assignment assignment;
  assignment.sizes.assign(sizes.begin(), sizes.end());
  assignment.inertia = scale_.to_double(DistanceScale::join(rest[0], rest[1]));
  assignment.moved = rest[2];
  return assignment;
}

void Lloyd::pass_over_rows(const CentroidPanels& panels, std::span<std::int64_t> sizes, std::int64_t& moved,
                           __int128& squares) {
  struct Tally {
    std::vector<std::int64_t> sizes;
    std::int64_t moved = 0;
    __int128 squares = 0;
  };
  std::vector<Tally> tallies(static_cast<std::size_t>(workers_), Tally{std::vector<std::int64_t>(sizes.size()), 0, 0});
  pass_.run([&](const RowTile& tile, const TilePlace& place, int worker) {
    Tally& tally = tallies[static_cast<std::size_t>(worker)];
    std::array<std::int32_t, kTileRows> nearest;
    panels.nearest(tile, nearest);
    for (std::int64_t i = 0; i < tile.count(); ++i) {
      const std::int32_t label = nearest[static_cast<std::size_t>(i)];
      std::int32_t& before = labels_[static_cast<std::size_t>(place.first_local + i)];
      ++tally.sizes[static_cast<std::size_t>(label)];
      tally.squares += scale_.to_fixed(panels.squared_distance(tile, i, label));
      if (label == before) continue;
      sums_.move(worker, tile.row(i), before, label);
      before = label;
      ++tally.moved;
    }
  });
  for (const Tally& tally : tallies) {
    for (std::size_t c = 0; c < sizes.size(); ++c) sizes[c] += tally.sizes[c];
    moved += tally.moved;
    squares += tally.squares;
  }
}

std::vector<float> Lloyd::means(std::span<const float> previous, const Assignment& assignment) const {
  std::vector<float> centroids(previous.begin(), previous.end());
  const auto sums = std::span(words_).first(sums_.words());
  std::vector<double> mean(static_cast<std::size_t>(dimension_));
  for (std::int64_t c = 0; c < params_.k; ++c) {
    const std::int64_t size = assignment.sizes[static_cast<std::size_t>(c)];
    if (size == 0) continue;
    double squares = 0;
    for (std::int64_t j = 0; j < dimension_; ++j) {
      mean[j] = sums_.mean(sums, c, j, size);
      squares += mean[j] * mean[j];
    }
    if (params_.spherical) {
      if (squares == 0) continue;  // directions that cancel have no mean direction: the centroid stays
      const double length = std::sqrt(squares);
      for (double& value : mean) value /= length;
    }
    std::copy(mean.begin(), mean.end(), centroids.begin() + c * dimension_);
  }
  return centroids;
}

std::int64_t Lloyd::refill_empty(std::span<const float> assigned_to, const Assignment& assignment,
                                 std::span<float> centroids) {
  const std::int64_t empty = std::count(assignment.sizes.begin(), assignment.sizes.end(), 0);
  if (empty == 0) return 0;
  const CentroidPanels panels(assigned_to, params_.k, dimension_);
  const auto rows = farthest_rows(pass_, panels, labels_, dimension_, empty, comm_, workers_);
  std::size_t next = 0;
  for (std::int64_t c = 0; c < params_.k && next < rows.size(); ++c) {
    if (assignment.sizes[static_cast<std::size_t>(c)] > 0) continue;
    std::copy(rows[next].values.begin(), rows[next].values.end(), centroids.begin() + c * dimension_);
    ++next;
  }
  return static_cast<std::int64_t>(next);
}

void Lloyd::report(const KMeansIteration& iteration) {
  if (!on_iteration_ || !comm_.is_root() || callback_error_) return;
  try {
    on_iteration_(iteration);
  } catch (...) {
    callback_error_ = std::current_exception();
  }
}

}  // namespace moextract::cluster
