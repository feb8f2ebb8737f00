// The rows of one layer and tap over a list of shards: whole or one rank's part, in order or shuffled.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "store/activation_shard.h"

namespace moextract::store {

/// Rows of one shard, all or a part of them, and their position in the whole set.
struct ShardExtent {
  std::filesystem::path path;
  std::int64_t first_global = 0, rows = 0;
  std::int64_t first_row = 0;   ///< of the part, in its shard
  std::int64_t shard_rows = 0;  ///< of the whole shard
};

/// What two shards were recorded with that differs, in words ("models (hash a and b)"), or nothing. The range of images
/// is not compared.
std::string difference(const ShardInfo& a, const ShardInfo& b);

/// Opens every shard once and reads its number of rows; the shards' order is the set's order. Throws UserError (input)
/// if shards disagree on model, seed or layer widths (names both files).
std::vector<ShardExtent> list_shards(std::span<const std::filesystem::path> paths);

/// Rows part * n / parts .. (part + 1) * n / parts - 1 of the n rows of `shards`: for rank `part` of `parts` ranks.
/// Parts are contiguous, differ by one row at most, and are empty where there are more of them than rows.
std::vector<ShardExtent> part_of_rows(std::span<const ShardExtent> shards, int part, int parts);

/// Streams blocks of at most `block_rows` rows of one layer and tap from the shards given (in order), calling
/// visit(first_global, count, rows). Blocks do not cross shards. One file is open at a time; memory: one block.
void stream_rows(std::span<const ShardExtent> shards, std::int64_t layer, Tap tap, std::int64_t block_rows,
                 const std::function<void(std::int64_t first_global, std::int64_t count,
                                          std::span<const std::uint16_t> rows)>& visit);

/// Rows in an order drawn from a seed.
struct ShuffledBlock {
  std::span<const std::int64_t> index;    ///< [n] of each row in the whole set
  std::span<const std::uint16_t> values;  ///< [n, width]
};

/// As stream_rows over whole shards, shuffled: blocks of `block_rows` neighbouring rows come in an order drawn from
/// `seed`, and so do the rows within each; a smaller block shuffles better and reads slower. Rank `part` of `parts`
/// gets every parts-th block, so all ranks together see the same blocks on any number of ranks. Memory: one block, and
/// the buffers of eight open shards.
void stream_shuffled_rows(std::span<const ShardExtent> shards, std::int64_t layer, Tap tap, std::int64_t block_rows,
                          std::uint64_t seed, int part, int parts,
                          const std::function<void(const ShuffledBlock&)>& visit);

}  // namespace moextract::store
