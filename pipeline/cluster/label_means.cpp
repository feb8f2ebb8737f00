#include "cluster/label_means.h"

#include <array>
#include <cmath>
#include <functional>

#include "cluster/centroid_grid.h"
#include "cluster/distances.h"
#include "cluster/exact_sums.h"
#include "cluster/row_survey.h"
#include "cluster/tile_pass.h"
#include "core/error.h"

namespace moextract::cluster {
namespace {

void mean_of(const ExactSums& sums, std::span<const std::int64_t> words, std::int64_t c, std::int64_t rows,
             bool spherical, std::span<float> out) {
  std::vector<double> mean(out.size());
  double squares = 0;
  for (std::size_t j = 0; j < mean.size(); ++j) {
    mean[j] = sums.mean(words, c, static_cast<std::int64_t>(j), rows);
    squares += mean[j] * mean[j];
  }
  const double scale = spherical && squares > 0 ? 1 / std::sqrt(squares) : 1;
  for (std::size_t j = 0; j < mean.size(); ++j) out[j] = to_centroid_grid(mean[j] * scale);
}

}  // namespace

LabelMeans label_means(const RowSource& source, std::span<const std::int32_t> labels, std::int64_t k, bool spherical,
                       comm::Communicator& comm, Workers& workers) {
  MOEX_ASSERT(static_cast<std::int64_t>(labels.size()) == source.local_rows(), "labels are not [local_rows]");
  const RowSurvey survey = survey_rows(source, 0, spherical, 0, comm, workers);
  const std::int64_t d = survey.dimension;
  const float largest = spherical ? 1.0f : survey.largest;
  const auto threads = static_cast<std::size_t>(workers.size());
  ExactSums sums(k, d, survey.rows, largest, workers.size());
  std::vector<std::vector<std::int64_t>> sizes(threads, std::vector<std::int64_t>(static_cast<std::size_t>(k)));
  std::vector<RowTile> tiles(threads, RowTile(d));
  const auto each_labelled = [&](const std::function<void(RowTile&, std::int64_t, std::int32_t, std::size_t)>& visit) {
    comm.together([&] {
      TilePass(source, workers).run([&](const TileView& view, int worker) {
        RowTile& tile = tiles[static_cast<std::size_t>(worker)];
        tile.load(view.rows, view.count, spherical);
        for (std::int64_t i = 0; i < view.count; ++i) {
          const std::int32_t label = labels[static_cast<std::size_t>(view.first_local + i)];
          MOEX_ASSERT(label < k, "a label is not below k");
          if (label >= 0) visit(tile, i, label, static_cast<std::size_t>(worker));
        }
      });
    });
  };
  each_labelled([&](RowTile& tile, std::int64_t i, std::int32_t label, std::size_t worker) {
    sums.move(static_cast<int>(worker), tile.row(i), -1, label);
    ++sizes[worker][static_cast<std::size_t>(label)];
  });
  std::vector<std::int64_t> words(sums.words() + static_cast<std::size_t>(k));
  const auto counts = std::span(words).subspan(sums.words());
  sums.total(std::span(words).first(sums.words()));
  for (const auto& mine : sizes) {
    for (std::size_t c = 0; c < mine.size(); ++c) counts[c] += mine[c];
  }
  comm.all_reduce(std::span<std::int64_t>(words), comm::Reduction::sum);

  LabelMeans means;
  means.sizes.assign(counts.begin(), counts.end());
  means.centroids.resize(static_cast<std::size_t>(k * d));
  for (std::int64_t c = 0; c < k; ++c) {
    const std::int64_t rows = means.sizes[static_cast<std::size_t>(c)];
    const auto out = std::span(means.centroids).subspan(static_cast<std::size_t>(c * d), static_cast<std::size_t>(d));
    if (rows > 0) mean_of(sums, std::span(words).first(sums.words()), c, rows, spherical, out);
  }

  const DistanceScale scale(largest, d);
  const CentroidPanels panels(means.centroids, k, d);
  std::vector<__int128> inertia(threads);
  each_labelled([&](RowTile& tile, std::int64_t i, std::int32_t label, std::size_t worker) {
    inertia[worker] += scale.to_fixed(panels.squared_distance(tile, i, label));
  });
  __int128 total = 0;
  for (const __int128 part : inertia) total += part;
  std::array<std::int64_t, 2> parts{};
  DistanceScale::split(total, parts[0], parts[1]);
  comm.all_reduce(std::span<std::int64_t>(parts), comm::Reduction::sum);
  means.inertia = scale.to_double(DistanceScale::join(parts[0], parts[1]));
  return means;
}

}  // namespace moextract::cluster
