// One pass over a rank's rows, cut into tiles that the workers take.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "cluster/distances.h"
#include "cluster/row_source.h"
#include "core/workers.h"

namespace moextract::cluster {

/// Largest |value| in `rows` ([n, dimension] float16 bits) as bits. Throws UserError (numerics) naming the first row,
/// by global number, that holds a NaN or infinity.
std::uint16_t largest_magnitude(std::span<const std::uint16_t> rows, std::int64_t dimension, std::int64_t first_global);

/// Consecutive rows as they come from the source. Nothing has been read of them.
struct TileView {
  std::span<const std::uint16_t> rows;  ///< [count, dimension]
  std::int64_t count = 0, dimension = 0;
  std::int64_t first_local = 0, first_global = 0;
  std::span<const std::uint32_t> weights;  ///< [count], or empty
  std::span<const std::uint16_t> ahead;    ///< rows that this worker is likely to be given next; may be empty

  std::span<const std::uint16_t> row(std::int64_t i) const {
    return rows.subspan(static_cast<std::size_t>(i * dimension), static_cast<std::size_t>(dimension));
  }
  /// Asks for row i + `distance` of this tile, or, past its end, of the one ahead, before it is needed: rows are far
  /// more than the caches hold, and the arithmetic on a row leaves the memory idle.
  void prefetch(std::int64_t i, std::int64_t distance) const {
    const std::int64_t at = (i + distance) * dimension, here = static_cast<std::int64_t>(rows.size());
    const std::uint16_t* row = rows.data() + at;
    if (at >= here) {
      if (at - here + dimension > static_cast<std::int64_t>(ahead.size())) return;
      row = ahead.data() + (at - here);
    }
    for (std::int64_t j = 0; j < dimension; j += 32) __builtin_prefetch(row + j, 0, 2);
  }
  std::int64_t weight(std::int64_t i) const { return weights.empty() ? 1 : weights[static_cast<std::size_t>(i)]; }
};

/// All blocks of a source, checked: throws BugError for blocks of another form than RowBlock's, and UserError (input)
/// if the source gives other rows than it announced. Not collective.
void for_each_checked_block(const RowSource& source, const std::function<void(const RowBlock&)>& visit);

class TilePass {
 public:
  /// Tiles of at most `tile_rows`.
  TilePass(const RowSource& source, Workers& workers, std::int64_t tile_rows = kTileRows)
      : source_(source), workers_(workers), tile_rows_(tile_rows) {}

  /// Hands out all rows once. Calls `visit` from the workers, a tile at a time, in no fixed order. Not collective.
  /// Throws UserError (input) if the source gives other rows than it announced. Rows are not checked: who reads them
  /// checks them.
  void run(const std::function<void(const TileView&, int worker)>& visit);

 private:
  const RowSource& source_;
  Workers& workers_;
  std::int64_t tile_rows_;
};

}  // namespace moextract::cluster
