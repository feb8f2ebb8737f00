// Lloyd's iteration: assign every row to its nearest centroid, move every centroid to the mean of its rows.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <vector>

#include "cluster/balancer.h"
#include "cluster/kmeans.h"
#include "cluster/lloyd_pass.h"
#include "cluster/nearest.h"
#include "cluster/row_survey.h"
#include "cluster/tile_pass.h"

namespace moextract::cluster {

class Lloyd {
 public:
  Lloyd(const RowSource& source, const KMeansParams& params, const RowSurvey& survey, comm::Communicator& comm,
        Workers& workers, const KMeansHooks& hooks);

  /// Collective. Hands out the state that a start begins with, and throws KMeansStopped if a rank was asked to stop.
  void begin(const KMeansState& state);

  /// Collective. Goes on from `state` (its centroids, [k, dimension]) to convergence or the last iteration.
  KMeansFit run(KMeansState state);

  /// Collective. Labels, sizes and inertia of centroids that are final, with the prices of balanced ones.
  KMeansFit only_assign(const std::vector<float>& centroids, const std::vector<double>& prices);

 private:
  // Numbers that travel with the sums.
  enum Extra : std::size_t { failures, stop_requests, extra_count };
  // What one pass tells of the whole set; the same on every rank.
  struct Assignment {
    std::vector<std::int64_t> sizes, weights;  // [k]
    double inertia = 0;
    std::int64_t moved = 0;
    bool stop = false;  // some rank was asked to
  };
  Assignment assign(std::span<const float> centroids);
  void balance(std::span<const float> centroids, Assignment& assignment);
  double inertia_of(const NearestCentroids& nearest, std::span<const float> centroids,
                    std::span<const std::int64_t> weights) const;
  std::vector<float> means(std::span<const float> previous, const Assignment& assignment) const;
  std::int64_t refill_empty(std::span<const float> assigned_to, const Assignment& assignment,
                            std::span<float> centroids);
  std::vector<std::int32_t> labels();
  void report(const KMeansIteration& iteration);
  bool asked_to_stop() const { return hooks_.should_stop && hooks_.should_stop(); }
  void hand_out(const KMeansState& state, bool stopping);

  const KMeansParams& params_;
  comm::Communicator& comm_;
  const KMeansHooks& hooks_;
  std::int64_t weight_, dimension_;
  __int128 squares_;
  Workers& workers_;
  TilePass rows_;  // for what needs rows as doubles
  PassWords layout_;
  std::unique_ptr<LloydPass> pass_;
  Balancer balancer_;
  std::vector<float> centre_;
  std::vector<std::int64_t> words_;  // the grouped reduction: the pass's, then Extra
  std::exception_ptr callback_error_;
};

}  // namespace moextract::cluster
