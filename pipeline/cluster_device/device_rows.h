// A rank's rows on a device: kept there where they fit, else sent in pieces in each pass.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "cluster/row_source.h"
#include "core/workers.h"

namespace moextract::cluster {

/// Consecutive local rows, on the device.
struct RowChunk {
  std::int64_t first_local = 0, count = 0;
  at::Tensor rows;     ///< [count, dimension], exact: float16, or float32 for rows of unit length
  at::Tensor lengths;  ///< [count] float32: |x - centre|, with the error of a float32 sum; finite
  at::Tensor weights;  ///< [count] int64; undefined: all 1
};

class DeviceRows {
 public:
  /// Rows stay on `device` from the first pass on if they take at most `most_bytes` (2 bytes a value, 4 if `spherical`,
  /// and 4 a row; 8 more with weights). Pieces have at most `chunk_rows`. Source and workers outlive it.
  DeviceRows(const RowSource& source, Workers& workers, bool spherical, const at::Device& device,
             std::int64_t most_bytes, std::int64_t chunk_rows);

  /// Hands out all rows once. `centre` is [dimension] float32 on the device, the same in all passes. Not collective.
  /// Throws UserError (numerics) naming a row that holds a NaN or infinity, (input) as for_each_checked_block().
  void for_each_chunk(const at::Tensor& centre, const std::function<void(const RowChunk&)>& visit);

  /// Do they stay on the device?
  bool are_kept() const { return keeps_; }

 private:
  void send_block(const RowBlock& block, const at::Tensor& centre, const std::function<void(const RowChunk&)>& visit);
  RowChunk send(const RowBlock& block, std::int64_t first, std::int64_t count, const at::Tensor& centre);
  void keep(RowChunk& chunk);

  const RowSource& source_;
  Workers& workers_;
  bool spherical_;
  at::Device device_;
  std::int64_t chunk_rows_;
  bool keeps_, filled_ = false;
  std::vector<float> prepared_;          // host: a piece of unit rows
  at::Tensor rows_, lengths_, weights_;  // of all local rows, where they are kept
};

}  // namespace moextract::cluster
