// Shards as a source of rows for clustering: one layer and tap, this rank's part.
#pragma once

#include <span>
#include <vector>

#include "cluster/row_source.h"
#include "store/shard_rows.h"

namespace moextract::stages {

/// The contiguous part of `shards` that rank `rank` of `ranks` reads; parts have about the same number of rows, may be
/// empty.
std::vector<store::ShardExtent> part_of_rank(std::span<const store::ShardExtent> shards, int rank, int ranks);

class ShardRowSource : public cluster::RowSource {
 public:
  ShardRowSource(std::vector<store::ShardExtent> shards, std::int64_t layer, store::Tap tap, std::int64_t dimension,
                 std::int64_t block_rows);
  std::int64_t dimension() const override { return dimension_; }
  std::int64_t local_rows() const override { return local_rows_; }
  void for_each_block(const std::function<void(const cluster::RowBlock&)>& visit) const override;

 private:
  std::vector<store::ShardExtent> shards_;
  std::int64_t layer_;
  store::Tap tap_;
  std::int64_t dimension_, block_rows_, local_rows_ = 0;
};

}  // namespace moextract::stages
