// Lloyd's iteration: assign every row to its nearest centroid, move every centroid to the mean of its rows.
#pragma once

#include <cstdint>
#include <exception>
#include <span>
#include <vector>

#include "cluster/balancer.h"
#include "cluster/bound_table.h"
#include "cluster/exact_sums.h"
#include "cluster/kmeans.h"
#include "cluster/nearest.h"
#include "cluster/rounded_rows.h"
#include "cluster/row_survey.h"
#include "cluster/tile_assigner.h"
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
  enum Extra : std::size_t { rows_moved, failures, stop_requests, extra_count };
  // What one pass tells of the whole set; the same on every rank.
  struct Assignment {
    std::vector<std::int64_t> sizes, weights;  // [k]
    double inertia = 0;
    std::int64_t moved = 0;
    bool stop = false;  // some rank was asked to
  };
  // A worker's buffers and counts.
  struct Bench {
    Bench(std::int64_t k, std::int64_t dimension);
    TileAssigner assigner;
    struct Move {
      std::int32_t cluster;
      signed char sign;  // 1: the row comes, -1: it goes
      std::int64_t i;    // in the tile
    };
    std::vector<Move> moves;
    std::vector<const std::uint16_t*> moved_rows;
    std::vector<signed char> signs;
    std::vector<std::int64_t> sizes, weights;
    std::int64_t moved = 0, read = 0, products = 0;
  };

  Assignment assign(std::span<const float> centroids);
  void balance(std::span<const float> centroids, Assignment& assignment);
  void pass_over_rows(const NearestCentroids& nearest, std::span<std::int64_t> sizes, std::span<std::int64_t> weights,
                      std::int64_t& moved);
  void assign_tile(const NearestCentroids& nearest, const TileView& tile, int worker);
  void add_moves(const TileView& tile, int worker);
  void settle(const TileView& tile, std::int64_t i, std::int32_t label, int worker);
  double inertia_of(const NearestCentroids& nearest, std::span<const float> centroids,
                    std::span<const std::int64_t> weights) const;
  std::vector<float> means(std::span<const float> previous, const Assignment& assignment) const;
  std::int64_t refill_empty(std::span<const float> assigned_to, const Assignment& assignment,
                            std::span<float> centroids);
  void report(const KMeansIteration& iteration);
  bool asked_to_stop() const { return hooks_.should_stop && hooks_.should_stop(); }
  void hand_out(const KMeansState& state, bool stopping);

  const RowSource& source_;
  const KMeansParams& params_;
  comm::Communicator& comm_;
  const KMeansHooks& hooks_;
  std::int64_t rows_, weight_, dimension_;
  __int128 squares_;
  Workers& workers_;
  TilePass pass_, small_pass_;  // of the assignment; of what needs rows as doubles
  ExactSums sums_;
  BoundTable bounds_;
  RoundedRows rounded_;
  Balancer balancer_;
  std::vector<float> centre_, assigned_to_;
  std::vector<std::int32_t> labels_;
  std::vector<Bench> benches_;       // one a worker
  std::vector<std::int64_t> words_;  // the grouped reduction: sums, sizes, weights, then Extra
  std::exception_ptr callback_error_;
};

}  // namespace moextract::cluster
