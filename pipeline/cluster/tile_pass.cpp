#include "cluster/tile_pass.h"

#include <algorithm>

#include "core/error.h"
#include "core/float16.h"

namespace moextract::cluster {

std::uint16_t largest_magnitude(std::span<const std::uint16_t> rows, std::int64_t dimension,
                                std::int64_t first_global) {
  // For finite and non-finite values alike, a larger magnitude has larger bits.
  std::uint16_t largest = 0;
  for (const std::uint16_t bits : rows) largest = std::max(largest, static_cast<std::uint16_t>(bits & 0x7fff));
  if (!float16_is_finite(largest)) {
    const std::int64_t at = first_non_finite(rows);
    fail(ExitCode::numerics,
         "row {} (counted over all ranks) holds a NaN or infinity at column {}: rows to be clustered must be finite; "
         "collect them again from weights and inputs that are, or drop the row",
         first_global + at / dimension, at % dimension);
  }
  return largest;
}

void for_each_checked_block(const RowSource& source, const std::function<void(const RowBlock&)>& visit) {
  if (source.local_rows() == 0) return;
  const std::int64_t d = source.dimension();
  std::int64_t seen = 0;
  source.for_each_block([&](const RowBlock& block) {
    MOEX_ASSERT(block.rows.size() == static_cast<std::size_t>(block.count * d), "a block is not [count, dimension]");
    MOEX_ASSERT(block.weights.empty() || block.weights.size() == static_cast<std::size_t>(block.count),
                "a block's weights are not [count]");
    MOEX_ASSERT(block.first_local >= 0 && block.first_local + block.count <= source.local_rows(),
                "a block lies outside the rank's rows");
    seen += block.count;
    visit(block);
  });
  if (seen != source.local_rows()) {
    fail(ExitCode::input, "the rows to be clustered changed while they were read: {} were announced, {} came",
         source.local_rows(), seen);
  }
}

void TilePass::run(const std::function<void(const TileView&, int worker)>& visit) {
  const std::int64_t d = source_.dimension();
  for_each_checked_block(source_, [&](const RowBlock& block) {
    const std::function<void(std::int64_t, int)> one_tile = [&](std::int64_t unit, int worker) {
      const std::int64_t first = unit * tile_rows_;
      TileView tile;
      tile.count = std::min(tile_rows_, block.count - first);
      tile.dimension = d;
      tile.rows = block.rows.subspan(static_cast<std::size_t>(first * d), static_cast<std::size_t>(tile.count * d));
      const std::int64_t later = first + workers_.size() * tile_rows_;
      if (later < block.count) {
        const std::int64_t count = std::min(tile_rows_, block.count - later);
        tile.ahead = block.rows.subspan(static_cast<std::size_t>(later * d), static_cast<std::size_t>(count * d));
      }
      tile.first_local = block.first_local + first;
      tile.first_global = block.first_global + first;
      if (!block.weights.empty()) {
        tile.weights = block.weights.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(tile.count));
      }
      visit(tile, worker);
    };
    // Waking the others costs more than a single tile.
    if (block.count <= tile_rows_) {
      if (block.count > 0) one_tile(0, 0);
    } else {
      workers_.for_each((block.count + tile_rows_ - 1) / tile_rows_, one_tile);
    }
  });
}

}  // namespace moextract::cluster
