#include "cluster/hdbscan_predictor.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "cluster/distances.h"
#include "cluster/hdbscan_neighbours.h"
#include "cluster/tile_pass.h"
#include "core/error.h"

namespace moextract::cluster::hdbscan {
namespace {

// Rows whose neighbours are looked for together: bounds the memory of candidates.
constexpr std::int64_t kAtOnce = 4096;

std::vector<std::int32_t> ascending(std::int64_t count) {
  std::vector<std::int32_t> numbers(static_cast<std::size_t>(count));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

}  // namespace

Predictor::Predictor(const Model& model, Workers& workers)
    : model_(model),
      workers_(workers),
      origin_(mean_row(model.points, model.dimension)),
      fast_(make_fast_rows(model.points, origin_, workers)),
      panels_(fast_, ascending(model.rows()), workers),
      parent_of_row_(static_cast<std::size_t>(model.rows()), 0),
      parent_of_cluster_(1, 0),
      lambda_of_row_(static_cast<std::size_t>(model.rows()), 0),
      lambda_of_cluster_(1, 0) {
  const std::int64_t n = model.rows();
  for (const CondensedEdge& edge : model.condensed) {
    if (edge.child < n) {
      parent_of_row_[static_cast<std::size_t>(edge.child)] = edge.parent - n;
      lambda_of_row_[static_cast<std::size_t>(edge.child)] = edge.lambda;
    } else {
      const auto child = static_cast<std::size_t>(edge.child - n);
      parent_of_cluster_.resize(std::max(parent_of_cluster_.size(), child + 1));
      lambda_of_cluster_.resize(parent_of_cluster_.size());
      parent_of_cluster_[child] = edge.parent - n;
      lambda_of_cluster_[child] = edge.lambda;
    }
  }
}

void Predictor::join_one(std::span<const std::int32_t> neighbours, std::span<const double> distances,
                         std::int32_t& label, double& probability) const {
  label = -1;
  probability = 0;
  if (model_.k() == 0 || neighbours.empty()) return;
  const double core = distances[static_cast<std::size_t>(
      std::min<std::int64_t>(model_.min_samples, static_cast<std::int64_t>(distances.size()) - 1))];
  double nearest = std::numeric_limits<double>::infinity();
  std::size_t through = 0;
  for (std::size_t k = 0; k < neighbours.size(); ++k) {
    const auto j = static_cast<std::size_t>(neighbours[k]);
    const double reached = std::max({model_.predict_core[j], core, distances[k]});
    if (reached < nearest) {
      nearest = reached;
      through = j;
    }
  }
  const double lambda = nearest > 0 ? 1 / nearest : std::numeric_limits<double>::max();
  auto cluster = static_cast<std::size_t>(parent_of_row_[through]);
  if (lambda_of_row_[through] > lambda) {
    while (cluster > 0 && lambda_of_cluster_[cluster] >= lambda) {
      cluster = static_cast<std::size_t>(parent_of_cluster_[cluster]);
    }
  }
  label = model_.clusters.label_below[cluster];
  if (label < 0) return;
  const auto top = static_cast<std::size_t>(model_.clusters.nodes[static_cast<std::size_t>(label)] - model_.rows());
  const double largest = model_.clusters.largest_lambda[top];
  probability = !(largest > 0) ? 1 : std::isinf(largest) ? (nearest > 0 ? 0 : 1) : std::min(lambda, largest) / largest;
}

Assignment Predictor::join_clusters(std::span<const float> points) const {
  const std::int64_t m = static_cast<std::int64_t>(points.size()) / model_.dimension;
  Assignment joined;
  joined.labels.resize(static_cast<std::size_t>(m));
  joined.probabilities.resize(static_cast<std::size_t>(m));
  const FastRows fast = make_fast_rows(points, origin_, workers_);
  const NeighbourLists lists =
      nearest_among(points, fast, model_.points, fast_, panels_, 2 * model_.min_samples, workers_);
  for (std::int64_t i = 0; i < m; ++i) {
    const auto at = static_cast<std::size_t>(i);
    join_one(lists.indices_of(i), lists.distances_of(i), joined.labels[at], joined.probabilities[at]);
  }
  return joined;
}

std::int32_t Predictor::label_of_noise(const float* point) const {
  switch (model_.params.noise) {
    case NoisePolicy::dropped:
      return -1;
    case NoisePolicy::own_cluster:
      return static_cast<std::int32_t>(model_.k());
    case NoisePolicy::nearest_centroid:
      break;
  }
  std::int32_t label = -1;
  double nearest = std::numeric_limits<double>::infinity();
  for (std::int64_t c = 0; c < model_.k(); ++c) {
    const double squared =
        exact_squared_distance(point, model_.centroids.data() + c * model_.dimension, model_.dimension);
    if (squared < nearest) {
      nearest = squared;
      label = static_cast<std::int32_t>(c);
    }
  }
  return label;
}

std::int64_t Predictor::pause_rows() const {
  constexpr std::int64_t kCost = 20'000'000'000;  // multiply-adds
  return std::clamp(kCost / std::max<std::int64_t>(1, model_.rows() * model_.dimension), kAtOnce, 8 * kAtOnce);
}

Assignment Predictor::assign(const RowSource& source, bool keep_sampled, const std::function<void()>& pause) const {
  Assignment all;
  const std::int64_t local = source.local_rows(), d = model_.input_dimension;
  if (local == 0) return all;
  if (source.dimension() != d) {
    fail(ExitCode::input, "rows of dimension {} cannot be given to clusters of dimension {}", source.dimension(), d);
  }
  all.labels.resize(static_cast<std::size_t>(local));
  all.probabilities.resize(static_cast<std::size_t>(local));
  std::vector<std::uint16_t> bits;
  std::vector<std::int64_t> places;  // local rows of `bits`
  std::vector<float> points;
  const auto prepare = [&](std::span<const std::uint16_t> rows) {
    points.resize(rows.size());
    prepare_rows(rows, d, model_.params.metric == Metric::cosine, points);
    if (model_.pca.components > 0) points = project(model_.pca, points, workers_);
  };
  const auto flush = [&] {
    prepare(bits);
    const Assignment joined = join_clusters(points);
    for (std::size_t i = 0; i < places.size(); ++i) {
      const auto at = static_cast<std::size_t>(places[i]);
      all.probabilities[at] = joined.probabilities[i];
      all.noise += joined.labels[i] < 0 ? 1 : 0;
      all.labels[at] = joined.labels[i] >= 0
                           ? joined.labels[i]
                           : label_of_noise(points.data() + static_cast<std::int64_t>(i) * model_.dimension);
    }
    bits.clear();
    places.clear();
  };
  const std::int64_t pause_every = pause_rows();
  std::int64_t seen = 0;
  source.for_each_block([&](const RowBlock& block) {
    largest_magnitude(block.rows, d, block.first_global);
    MOEX_ASSERT(block.first_local >= 0 && block.first_local + block.count <= local, "a block lies outside the rows");
    for (std::int64_t i = 0; i < block.count; ++i) {
      if (seen > 0 && seen % pause_every == 0) pause();
      ++seen;
      const std::int64_t number = block.first_global + i;
      const auto in_sample = std::lower_bound(model_.numbers.begin(), model_.numbers.end(), number);
      if (keep_sampled && in_sample != model_.numbers.end() && *in_sample == number) {
        const auto row = static_cast<std::size_t>(in_sample - model_.numbers.begin());
        const auto at = static_cast<std::size_t>(block.first_local + i);
        const std::int32_t label = model_.clusters.labels[row];
        all.probabilities[at] = model_.clusters.probabilities[row];
        all.noise += label < 0 ? 1 : 0;
        all.labels[at] = label >= 0
                             ? label
                             : label_of_noise(model_.points.data() + static_cast<std::int64_t>(row) * model_.dimension);
        continue;
      }
      const auto row = block.rows.subspan(static_cast<std::size_t>(i * d), static_cast<std::size_t>(d));
      bits.insert(bits.end(), row.begin(), row.end());
      places.push_back(block.first_local + i);
      if (static_cast<std::int64_t>(places.size()) == kAtOnce) flush();
    }
  });
  if (!places.empty()) flush();
  if (seen != local) {
    fail(ExitCode::input, "the rows to be clustered changed while they were read: {} were announced, {} came", local,
         seen);
  }
  return all;
}

}  // namespace moextract::cluster::hdbscan
