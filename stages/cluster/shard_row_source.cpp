#include "stages/cluster/shard_row_source.h"

#include "comm/watched.h"

namespace moextract::stages {

std::vector<store::ShardExtent> part_of_rank(std::span<const store::ShardExtent> shards, int rank, int ranks) {
  std::int64_t total = 0;
  for (const store::ShardExtent& shard : shards) total += shard.rows;
  std::vector<store::ShardExtent> part;
  for (const store::ShardExtent& shard : shards) {
    // A shard belongs to the rank in whose equal share of the rows its middle lies.
    const std::int64_t middle = shard.first_global + shard.rows / 2;
    const std::int64_t owner = total == 0 ? 0 : middle * ranks / total;
    if (owner == rank) part.push_back(shard);
  }
  return part;
}

ShardRowSource::ShardRowSource(std::vector<store::ShardExtent> shards, std::int64_t layer, store::Tap tap,
                               std::int64_t dimension, std::int64_t block_rows)
    : shards_(std::move(shards)), layer_(layer), tap_(tap), dimension_(dimension), block_rows_(block_rows) {
  for (const store::ShardExtent& shard : shards_) local_rows_ += shard.rows;
}

void ShardRowSource::for_each_block(const std::function<void(const cluster::RowBlock&)>& visit) const {
  std::int64_t local = 0;
  store::stream_rows(shards_, layer_, tap_, block_rows_,
                     [&](std::int64_t first_global, std::int64_t count, std::span<const std::uint16_t> rows) {
                       visit({local, first_global, count, rows});
                       comm::note_progress();  // ranks with fewer rows wait in the reduction
                       local += count;
                     });
}

}  // namespace moextract::stages
