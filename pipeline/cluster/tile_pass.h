// One pass over a rank's rows, cut into tiles that the workers take.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "cluster/distances.h"
#include "cluster/row_source.h"
#include "core/workers.h"

namespace moextract::cluster {

/// Largest |value| in `rows` ([n, dimension] float16 bits) as bits. Throws UserError (numerics) naming the first row,
/// by global number, that holds a NaN or infinity.
std::uint16_t largest_magnitude(std::span<const std::uint16_t> rows, std::int64_t dimension, std::int64_t first_global);

/// Where a tile stands.
struct TilePlace {
  std::int64_t first_local = 0;
  std::int64_t first_global = 0;
};

class TilePass {
 public:
  TilePass(const RowSource& source, bool spherical, Workers& workers);

  /// Reads all rows once. Calls `visit` from the workers, a tile at a time, in no fixed order. Not collective.
  /// Throws UserError (numerics) for a row that is not finite, (input) if the source gives other rows than it
  /// announced.
  void run(const std::function<void(const RowTile&, const TilePlace&, int worker)>& visit);

 private:
  const RowSource& source_;
  bool spherical_;
  Workers& workers_;
  std::vector<RowTile> tiles_;  // one a worker
};

}  // namespace moextract::cluster
