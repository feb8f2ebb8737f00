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

TilePass::TilePass(const RowSource& source, bool spherical, Workers& workers)
    : source_(source), spherical_(spherical), workers_(workers) {
  if (source.local_rows() > 0) tiles_.assign(static_cast<std::size_t>(workers.size()), RowTile(source.dimension()));
}

void TilePass::run(const std::function<void(const RowTile&, const TilePlace&, int worker)>& visit) {
  if (source_.local_rows() == 0) return;
  const std::int64_t d = source_.dimension();
  std::int64_t seen = 0;
  source_.for_each_block([&](const RowBlock& block) {
    MOEX_ASSERT(block.rows.size() == static_cast<std::size_t>(block.count * d), "a block is not [count, dimension]");
    MOEX_ASSERT(block.first_local >= 0 && block.first_local + block.count <= source_.local_rows(),
                "a block lies outside the rank's rows");
    seen += block.count;
    workers_.for_each((block.count + kTileRows - 1) / kTileRows, [&](std::int64_t unit, int worker) {
      const std::int64_t first = unit * kTileRows;
      const std::int64_t count = std::min<std::int64_t>(kTileRows, block.count - first);
      const auto rows = block.rows.subspan(static_cast<std::size_t>(first * d), static_cast<std::size_t>(count * d));
      largest_magnitude(rows, d, block.first_global + first);
      RowTile& tile = tiles_[static_cast<std::size_t>(worker)];
      tile.load(rows, count, spherical_);
      visit(tile, {.first_local = block.first_local + first, .first_global = block.first_global + first}, worker);
    });
  });
  if (seen != source_.local_rows()) {
    fail(ExitCode::input, "the rows to be clustered changed while they were read: {} were announced, {} came",
         source_.local_rows(), seen);
  }
}

}  // namespace moextract::cluster
