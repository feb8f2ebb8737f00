// Scores of rows and centroids by a float32 product on a device, with a bound of their error that holds for any order
// of its additions: docs/clustering-kmeans.md has the argument.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "cluster/nearest.h"
#include "cluster_device/device_rows.h"

namespace moextract::cluster {

/// Scores (squared distance less the row's squared length from the centre, plus the price) lie between.
struct ScoreBounds {
  at::Tensor lower, upper;  ///< [n, k] float32
};

/// What the bounds tell of rows.
struct Verdict {
  at::Tensor labels;      ///< [n] int64: the nearest centroid, where one candidate is left
  at::Tensor counts;      ///< [n] int64: candidates left, 1 and more
  at::Tensor candidates;  ///< [n, k] bool: what may be nearest
};

/// The largest dimension for which the bound holds, and no exact sum overflows (nearest.h).
inline constexpr std::int64_t kMostDeviceDimension = std::int64_t{1} << 20;

class DeviceScores {
 public:
  DeviceScores(const NearestCentroids& nearest, const at::Device& device);

  /// [dimension] float32, on the device.
  const at::Tensor& centre() const { return centre_; }

  ScoreBounds bounds(const RowChunk& chunk) const;
  Verdict judge(const RowChunk& chunk) const;

 private:
  at::Tensor centre_;     // [dimension]
  at::Tensor centroids_;  // [k, dimension] less the centre
  at::Tensor offsets_;    // [k] scores of the centre
  at::Tensor reach_;      // [k] error of the score for each unit of the row's length
  at::Tensor slack_;      // [k] error beside it
};

}  // namespace moextract::cluster
