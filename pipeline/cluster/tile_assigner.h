// The true nearest centroids of a tile of rows, with as few products as the distance bounds allow.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cluster/bound_table.h"
#include "cluster/nearest.h"
#include "cluster/rounded_rows.h"
#include "cluster/tile_pass.h"

namespace moextract::cluster {

/// What is kept of a rank's rows from one pass to the next. Workers touch different rows.
struct RowMemory {
  BoundTable& bounds;
  RoundedRows& rounded;
  bool spherical = false;
  std::int64_t likely_next = 0;  ///< rows between a tile and the one that its worker is likely to be given next
};

/// A worker's buffers, and what it does with them.
class TileAssigner {
 public:
  /// For tiles of at most `tile_rows`.
  TileAssigner(std::int64_t k, std::int64_t dimension, std::int64_t tile_rows);

  /// The new labels of the tile's rows, valid until the next call; `before` are the old ones, [count], read only where
  /// there are bounds. Brings the rows' bounds up to date. Throws UserError (numerics) for rows that are not finite.
  std::span<const std::int32_t> assign(const NearestCentroids& nearest, const TileView& tile,
                                       std::span<const std::int32_t> before, const RowMemory& memory);

  /// The tile's row as floats, prepared: valid until the next call.
  std::span<const float> prepared_row(const TileView& tile, std::int64_t i, bool spherical);

 private:
  // A row with centroids that may be nearer than its own: suspects_ from `first` up to `last`.
  struct Pending {
    std::int64_t i;  // in the tile
    RoundedRow row;
    ScoreRange own;
    std::size_t first, last;
    std::size_t next;  // the first suspect that is not measured yet
  };

  void find_open(const TileView& tile, std::span<const std::int32_t> before, const RowMemory& memory);
  void find_suspects(const NearestCentroids& nearest, const TileView& tile, const RowMemory& memory);
  void measure_suspects(const NearestCentroids& nearest, const TileView& tile, const RowMemory& memory);
  std::int32_t nearest_of(const NearestCentroids& nearest, const TileView& tile, const Pending& pending,
                          const RowMemory& memory);
  std::int32_t nearest_suspect(const NearestCentroids& nearest, const TileView& tile, std::int64_t i,
                               std::int32_t before, const RoundedRow& row, const ScoreRange& own,
                               std::span<const std::int32_t> suspects, std::span<const ScoreRange> ranges,
                               const RowMemory& memory);
  void measure_all(const NearestCentroids& nearest, const TileView& tile, const RowMemory& memory);
  RoundedRow rounded_row(const NearestCentroids& nearest, const TileView& tile, std::int64_t i,
                         const RowMemory& memory);

  NearestScratch scratch_;
  std::vector<float> row_;
  std::vector<std::int32_t> labels_, ids_, candidates_;
  std::vector<ScoreRange> ranges_;
  std::vector<RoundedRow> open_rows_;              // at open_
  std::vector<std::int32_t> own_products_;         // of them, with the centroid of their old label
  std::vector<Pending> pending_;                   // rows that some centroids are measured for
  std::vector<std::int32_t> suspects_, products_;  // of all of them, and their products with the rows
  std::vector<std::int64_t> open_, places_;  // in the tile: rows not cleared; rows that all centroids are measured for
  std::vector<RoundedRow> whole_;            // at places_
};

}  // namespace moextract::cluster
