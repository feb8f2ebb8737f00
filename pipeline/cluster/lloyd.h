// Lloyd's iteration: assign every row to its nearest centroid, move every centroid to the mean of its rows.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <span>
#include <vector>

#include "cluster/distances.h"
#include "cluster/exact_sums.h"
#include "cluster/kmeans.h"
#include "cluster/row_survey.h"
#include "cluster/tile_pass.h"

namespace moextract::cluster {

class Lloyd {
 public:
  Lloyd(const RowSource& source, const KMeansParams& params, const RowSurvey& survey, comm::Communicator& comm,
        Workers& workers, const std::function<void(const KMeansIteration&)>& on_iteration);

  /// Collective. Runs from `centroids` ([k, dimension]) to convergence or the last iteration.
  KMeansFit run(std::vector<float> centroids);

 private:
  // What one pass tells of the whole set; the same on every rank.
  struct Assignment {
    std::vector<std::int64_t> sizes;  // [k]
    double inertia = 0;
    std::int64_t moved = 0;
  };
  Assignment assign(std::span<const float> centroids);
  void pass_over_rows(const CentroidPanels& panels, std::span<std::int64_t> sizes, std::int64_t& moved,
                      __int128& squares);
  std::vector<float> means(std::span<const float> previous, const Assignment& assignment) const;
  std::int64_t refill_empty(std::span<const float> assigned_to, const Assignment& assignment,
                            std::span<float> centroids);
  void report(const KMeansIteration& iteration);

  const KMeansParams& params_;
  comm::Communicator& comm_;
  const std::function<void(const KMeansIteration&)>& on_iteration_;
  std::int64_t rows_, dimension_;
  int workers_;
  float largest_;
  DistanceScale scale_;
  TilePass pass_;
  ExactSums sums_;
  std::vector<std::int32_t> labels_;
  std::vector<std::int64_t> words_;  // the grouped reduction: sums, sizes, inertia (2), moved, failures
  std::exception_ptr callback_error_;
};

}  // namespace moextract::cluster
