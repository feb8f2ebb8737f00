// Shards as a source of rows for clustering: what is tapped of one layer, this rank's part.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "cluster/row_source.h"
#include "core/workers.h"
#include "store/shard_rows.h"

namespace moextract::stages {

/// What a row is.
enum class ClusterTap {
  h,     ///< the hidden values after the GELU
  x,     ///< the MLP's input
  both,  ///< x, then h
  y      ///< the MLP's output W2 h + b2, rounded to float16
};
std::string tap_name(ClusterTap tap);  ///< "h", "x", "both", "y"

/// W2 and b2 of a layer: what y is computed by.
struct OutputLayer {
  std::int64_t width = 0, hidden = 0;
  std::vector<float> weight;  ///< [width, hidden]
  std::vector<float> bias;    ///< [width], or empty: none
};

/// y of rows of h: each value is one sum in double, the bias first, then the hidden values in ascending order, whose
/// products are exact: the same bits on every machine, for any blocks. `h` is [n, hidden], `y` [n, width] float16 bits.
/// Values beyond float16 become infinite.
void compute_outputs(const OutputLayer& layer, std::span<const std::uint16_t> h, std::span<std::uint16_t> y,
                     Workers& workers);

class ShardRowSource : public cluster::RowSource {
 public:
  struct Settings {
    ClusterTap tap = ClusterTap::h;
    std::int64_t x_width = 0, h_width = 0;  ///< of the layer's rows in the shards
    std::int64_t block_rows = 4096;         ///< read at once
    std::int64_t keep_bytes = 0;            ///< rows no larger than this stay in memory after the first pass
    const OutputLayer* output = nullptr;    ///< tap y; outlives this
  };
  /// `shards`: consecutive parts of the set, as part_of_rows() gives them.
  ShardRowSource(std::vector<store::ShardExtent> shards, std::int64_t layer, const Settings& settings,
                 Workers& workers);

  std::int64_t dimension() const override { return dimension_; }
  std::int64_t local_rows() const override { return local_rows_; }
  /// Throws UserError (input) as stream_rows() does, (numerics) naming the shard and row of an output that is too
  /// large. Not from two threads at once.
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
