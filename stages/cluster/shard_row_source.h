// Shards as a source of rows for clustering: what is tapped of one layer, this rank's part.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "cluster/row_source.h"
#include "core/workers.h"
#include "stages/cluster/row_map.h"
#include "store/shard_rows.h"

namespace moextract::stages {

/// What a row is.
enum class ClusterTap {
  h,     ///< the hidden values after the GELU
  x,     ///< the MLP's input
  both,  ///< x, then h
  y,     ///< the MLP's output W2 h + b2, rounded to float16
  z      ///< the pre-activations W1 x + b1, each scaled to variance 1, as preactivation_map() folds them into x's width
};
std::string tap_name(ClusterTap tap);  ///< "h", "x", "both", "y", "z"
bool reads_x(ClusterTap tap);          ///< whether rows are made of recorded inputs
bool reads_h(ClusterTap tap);          ///< whether rows are made of recorded hidden values

class ShardRowSource : public cluster::RowSource {
 public:
  struct Settings {
    ClusterTap tap = ClusterTap::h;
    std::int64_t x_width = 0, h_width = 0;  ///< of the layer's rows in the shards
    std::int64_t block_rows = 4096;         ///< read at once
    std::int64_t keep_bytes = 0;            ///< rows no larger than this stay in memory after the first pass
    const RowMap* map = nullptr;            ///< tap y: of h; tap z: of x; outlives this
  };
  /// `shards`: consecutive parts of the set, as part_of_rows() gives them.
  ShardRowSource(std::vector<store::ShardExtent> shards, std::int64_t layer, const Settings& settings,
                 Workers& workers);

  std::int64_t dimension() const override { return dimension_; }
  std::int64_t local_rows() const override { return local_rows_; }
  /// Throws UserError (input) as stream_rows() does, (numerics) naming the shard and row of a mapped row that is
  /// too large. Not from two threads at once.
  void for_each_block(const std::function<void(const cluster::RowBlock&)>& visit) const override;

 private:
  void read_blocks(const std::function<void(const cluster::RowBlock&)>& visit) const;
  void visit_kept(const std::function<void(const cluster::RowBlock&)>& visit) const;

  std::vector<store::ShardExtent> shards_;
  std::int64_t layer_;
  Settings settings_;
  Workers& workers_;
  std::int64_t dimension_ = 0, local_rows_ = 0;
  mutable std::vector<std::uint16_t> kept_;  // all rows, once a pass was complete
};

}  // namespace moextract::stages
