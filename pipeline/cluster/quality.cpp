#include "cluster/quality.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include "cluster/centroid_grid.h"
#include "cluster/distances.h"
#include "cluster/nearest.h"
#include "cluster/row_survey.h"
#include "core/error.h"

namespace moextract::cluster {
namespace {

// Silhouettes of the rows: each row against all, its own work in one fixed order.
std::vector<double> silhouettes(std::span<const float> rows, std::int64_t d, std::span<const std::int32_t> labels,
                                std::span<const std::int64_t> sizes, Workers& workers) {
  const auto n = static_cast<std::int64_t>(labels.size()), k = static_cast<std::int64_t>(sizes.size());
  // Panels of a part of the rows at a time bound the memory.
  constexpr std::int64_t kPart = 512;
  std::vector<double> sums(static_cast<std::size_t>(n * k));
  std::vector<RowTile> tiles(static_cast<std::size_t>(workers.size()), RowTile(d));
  std::vector<std::vector<double>> distances(static_cast<std::size_t>(workers.size()));
  for (std::int64_t begin = 0; begin < n; begin += kPart) {
    const std::int64_t part = std::min(kPart, n - begin);
    const CentroidPanels panels(rows.subspan(static_cast<std::size_t>(begin * d), static_cast<std::size_t>(part * d)),
                                part, d);
    workers.for_each((n + kTileRows - 1) / kTileRows, [&](std::int64_t unit, int worker) {
      const std::int64_t first = unit * kTileRows, count = std::min<std::int64_t>(kTileRows, n - first);
      RowTile& tile = tiles[static_cast<std::size_t>(worker)];
      std::vector<double>& squares = distances[static_cast<std::size_t>(worker)];
      squares.resize(static_cast<std::size_t>(kTileRows * part));
      tile.load(rows.subspan(static_cast<std::size_t>(first * d), static_cast<std::size_t>(count * d)), count);
      panels.squared_distances(tile, squares);
      for (std::int64_t i = 0; i < count; ++i) {
        double* sum = sums.data() + (first + i) * k;
        for (std::int64_t j = 0; j < part; ++j) sum[labels[begin + j]] += std::sqrt(squares[i * part + j]);
      }
    });
  }
  std::vector<double> values(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int32_t own = labels[static_cast<std::size_t>(i)];
    if (sizes[static_cast<std::size_t>(own)] == 1) continue;
    double nearest = std::numeric_limits<double>::infinity();
    for (std::int64_t c = 0; c < k; ++c) {
      const auto size = static_cast<double>(sizes[static_cast<std::size_t>(c)]);
      if (c != own && size > 0) nearest = std::min(nearest, sums[i * k + c] / size);
    }
    const double within = sums[i * k + own] / static_cast<double>(sizes[static_cast<std::size_t>(own)] - 1);
    const double larger = std::max(within, nearest);
    values[i] = larger > 0 ? (nearest - within) / larger : 0;
  }
  return values;
}

double davies_bouldin(std::span<const float> rows, std::int64_t d, std::span<const std::int32_t> labels,
                      std::span<const std::int64_t> sizes) {
  const std::size_t k = sizes.size(), width = static_cast<std::size_t>(d);
  std::vector<double> means(k * width), spreads(k);
  for (std::size_t i = 0; i < labels.size(); ++i) {
    for (std::size_t j = 0; j < width; ++j) means[labels[i] * width + j] += static_cast<double>(rows[i * width + j]);
  }
  for (std::size_t c = 0; c < k; ++c) {
    for (std::size_t j = 0; j < width; ++j) means[c * width + j] /= std::max(1.0, static_cast<double>(sizes[c]));
  }
  const auto length = [&](auto&& difference) {
    double squares = 0;
    for (std::size_t j = 0; j < width; ++j) squares += difference(j) * difference(j);
    return std::sqrt(squares);
  };
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const auto c = static_cast<std::size_t>(labels[i]);
    spreads[c] +=
        length([&](std::size_t j) { return static_cast<double>(rows[i * width + j]) - means[c * width + j]; }) /
        static_cast<double>(sizes[c]);
  }
  double total = 0, there = 0;
  for (std::size_t a = 0; a < k; ++a) {
    if (sizes[a] == 0) continue;
    double worst = 0;
    for (std::size_t b = 0; b < k; ++b) {
      if (b == a || sizes[b] == 0) continue;
      const double apart = length([&](std::size_t j) { return means[a * width + j] - means[b * width + j]; });
      if (spreads[a] + spreads[b] > 0) worst = std::max(worst, (spreads[a] + spreads[b]) / apart);
    }
    total += worst;
    ++there;
  }
  return total / there;
}

}  // namespace

ClusterQuality measure_quality(std::span<const float> rows, std::int64_t dimension,
                               std::span<const std::int32_t> labels, Workers& workers) {
  MOEX_ASSERT(rows.size() == labels.size() * static_cast<std::size_t>(dimension), "rows are not [labels, dimension]");
  ClusterQuality quality;
  quality.sampled = static_cast<std::int64_t>(labels.size());
  std::map<std::int32_t, std::int32_t> numbers;  // labels that occur, numbered from 0
  for (const std::int32_t label : labels) numbers.emplace(label, 0);
  std::int32_t next = 0;
  for (auto& entry : numbers) entry.second = next++;
  if (next < 2) {
    quality.silhouette = quality.davies_bouldin = std::numeric_limits<double>::quiet_NaN();
    return quality;
  }
  std::vector<std::int32_t> dense;
  std::vector<std::int64_t> sizes(static_cast<std::size_t>(next));
  for (const std::int32_t label : labels) {
    dense.push_back(numbers[label]);
    ++sizes[static_cast<std::size_t>(dense.back())];
  }
  for (const double value : silhouettes(rows, dimension, dense, sizes, workers)) quality.silhouette += value;
  quality.silhouette /= static_cast<double>(labels.size());
  quality.davies_bouldin = davies_bouldin(rows, dimension, dense, sizes);
  return quality;
}

ClusterQuality measure_quality(const KMeansModel& model, const RowSource& source, bool spherical,
                               std::int64_t sample_rows, std::uint64_t seed, comm::Communicator& comm,
                               Workers& workers) {
  const RowSurvey survey = survey_rows(source, std::max<std::int64_t>(1, sample_rows), spherical, seed, comm, workers);
  if (survey.dimension != model.dimension) {
    fail(ExitCode::input, "rows of dimension {} cannot be given to clusters of dimension {}", survey.dimension,
         model.dimension);
  }
  std::vector<float> centroids;
  for (const float value : model.centroids) centroids.push_back(to_centroid_grid(static_cast<double>(value)));
  const NearestCentroids nearest(centroids, model.k, model.dimension, {}, model.prices);
  NearestScratch scratch(model.k, model.dimension, 1);
  std::vector<std::int32_t> labels;
  const auto d = static_cast<std::size_t>(model.dimension);
  for (std::size_t i = 0; i < static_cast<std::size_t>(survey.sampled); ++i) {
    const auto row = std::span(survey.sample).subspan(i * d, d);
    RoundedRow rounded;
    nearest.round(row, scratch, 0, rounded);
    nearest.all_scores(std::span(&rounded, 1), scratch, [&](std::size_t, const NearestCentroids::RowScores& scores) {
      labels.push_back(scores.label >= 0 ? scores.label : nearest.decide(row, scores.candidates, scratch));
    });
  }
  return measure_quality(survey.sample, model.dimension, labels, workers);
}

}  // namespace moextract::cluster
