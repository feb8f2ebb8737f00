// The rows farthest from their centroids: what empty clusters are refilled with.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cluster/distances.h"
#include "cluster/tile_pass.h"
#include "comm/communicator.h"

namespace moextract::cluster {

struct FarRow {
  double distance = 0;  ///< squared, to its centroid
  std::int64_t global = 0;
  std::vector<float> values;
};

/// Up to a limit of rows by (distance descending, global number ascending), all different in value: of equal rows the
/// one with the smallest number stays. What stays does not depend on the order of the offers.
class FarthestRows {
 public:
  explicit FarthestRows(std::int64_t limit) : limit_(static_cast<std::size_t>(limit)) {}
  void offer(double distance, std::int64_t global, std::span<const float> row);
  const std::vector<FarRow>& rows() const { return rows_; }

 private:
  std::size_t limit_;
  std::vector<FarRow> rows_;
};

/// Collective: one pass over the rows and three gathers. `labels` are the local rows' clusters. At most `limit` rows of
/// the whole set, the same on every rank, none that lies on its centroid.
std::vector<FarRow> farthest_rows(TilePass& pass, const CentroidPanels& panels, std::span<const std::int32_t> labels,
                                  std::int64_t dimension, bool spherical, std::int64_t limit, comm::Communicator& comm,
                                  int workers);

}  // namespace moextract::cluster
