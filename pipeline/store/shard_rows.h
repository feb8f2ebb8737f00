// The rows of one layer and tap over a list of shards: whole, or one rank's part.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "store/activation_shard.h"

namespace moextract::store {

/// Position of one shard's rows in the whole set.
struct ShardExtent {
  std::filesystem::path path;
  std::int64_t first_global = 0, rows = 0;
};

/// Opens every shard once and reads its number of rows; the shards' order is the set's order. Throws UserError (input)
/// if shards disagree on model, seed or layer widths (names both files).
std::vector<ShardExtent> list_shards(std::span<const std::filesystem::path> paths);

/// Streams blocks of at most `block_rows` rows of one layer and tap from the shards given (in order), calling
/// visit(first_global, count, rows). Blocks do not cross shards. One file is open at a time; memory: one block.
void stream_rows(std::span<const ShardExtent> shards, std::int64_t layer, Tap tap, std::int64_t block_rows,
                 const std::function<void(std::int64_t first_global, std::int64_t count,
                                          std::span<const std::uint16_t> rows)>& visit);

}  // namespace moextract::store
