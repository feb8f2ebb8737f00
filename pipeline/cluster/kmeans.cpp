#include "cluster/kmeans.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "cluster/distances.h"
#include "cluster/kmeans_init.h"
#include "cluster/lloyd.h"
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
}

}  // namespace

KMeansFit fit(const RowSource& source, const KMeansParams& params, comm::Communicator& comm, Workers& workers,
              const std::function<void(const KMeansIteration&)>& on_iteration) {
  check(params);
  RowSurvey survey =
      survey_rows(source, std::max(params.init_sample, params.k), params.spherical, params.seed, comm, workers);
  const RowSurvey facts = {.rows = survey.rows, .dimension = survey.dimension, .largest = survey.largest};
  CentroidSeeder seeder(source, params, std::move(survey), comm, workers);
  KMeansFit best;
  for (std::int64_t start = 0; start < params.n_init; ++start) {
    KMeansFit next = Lloyd(source, params, facts, comm, workers, on_iteration).run(seeder.draw(start));
    if (start == 0 || next.model.inertia < best.model.inertia) best = std::move(next);
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
  const CentroidPanels panels(model.centroids, model.k, model.dimension);
  TilePass(source, spherical, workers).run([&](const RowTile& tile, const TilePlace& place, int) {
    std::array<std::int32_t, kTileRows> nearest;
    panels.nearest(tile, nearest);
    std::copy_n(nearest.begin(), tile.count(), labels.begin() + place.first_local);
  });
  return labels;
}

}  // namespace moextract::cluster
