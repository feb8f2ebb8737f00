// The pass over the rows on the processor: integer products, as few of them as distance bounds allow.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cluster/bound_table.h"
#include "cluster/exact_sums.h"
#include "cluster/lloyd_pass.h"
#include "cluster/nearest.h"
#include "cluster/rounded_rows.h"
#include "cluster/tile_assigner.h"
#include "cluster/tile_pass.h"

namespace moextract::cluster {

class HostPass final : public LloydPass {
 public:
  /// Most memory for distance bounds and for rows rounded once, as in KMeansParams; bounds are not kept with prices.
  HostPass(const RowSource& source, const PassFacts& facts, Workers& workers, std::int64_t bounds_bytes,
           std::int64_t rounded_bytes);

  void run(const NearestCentroids& nearest) override;
  void reduce(std::span<std::int64_t> words, comm::Communicator& comm) override;
  std::span<const std::int32_t> labels() override { return labels_; }

 private:
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
    std::int64_t moved = 0;
  };

  void assign_tile(const NearestCentroids& nearest, const TileView& tile, int worker);
  void add_moves(const TileView& tile, int worker);
  void settle(const TileView& tile, std::int64_t i, std::int32_t label, int worker);

  PassFacts facts_;
  PassWords layout_;
  Workers& workers_;
  TilePass pass_;
  ExactSums sums_;
  BoundTable bounds_;
  RoundedRows rounded_;
  std::vector<float> assigned_to_;  // centroids of the last pass
  std::vector<std::int32_t> labels_;
  std::vector<Bench> benches_;  // one a worker
};

}  // namespace moextract::cluster
