// Rows rounded to 16 bits once and kept, where there is memory: later passes need not convert them again.
#pragma once

#include <cstdint>
#include <vector>

#include "cluster/large_array.h"
#include "cluster/nearest.h"

namespace moextract::cluster {

class RoundedRows {
 public:
  /// What they take for `rows` local rows; 0 where they are off.
  static std::int64_t bytes_for(std::int64_t rows, std::int64_t dimension, std::int64_t most_bytes) {
    const std::int64_t bytes_a_row = 2 * padded_depth(dimension) + static_cast<std::int64_t>(sizeof(RoundedRow));
    return rows <= most_bytes / bytes_a_row ? rows * bytes_a_row : 0;
  }
  /// For `rows` local rows; off, and of no size, if they would take more than `most_bytes`.
  RoundedRows(std::int64_t rows, std::int64_t dimension, std::int64_t most_bytes)
      : depth_(padded_depth(dimension)), on_(bytes_for(rows, dimension, most_bytes) > 0) {
    if (!on_) return;
    values_ = LargeArray<std::int16_t>(static_cast<std::size_t>(rows * depth_));
    rows_.resize(static_cast<std::size_t>(rows));
  }

  bool is_on() const { return on_; }
  /// Have all rows been rounded? Then row() may be read.
  bool is_filled() const { return on_ && filled_; }
  /// After a pass that rounded all rows into place().
  void finish() { filled_ = on_; }

  std::int16_t* place(std::int64_t row) { return values_.data() + row * depth_; }
  RoundedRow& row(std::int64_t row) { return rows_[static_cast<std::size_t>(row)]; }
  /// Asks for a row before it is needed; nothing beyond the last one.
  void prefetch(std::int64_t row) const {
    if (row >= static_cast<std::int64_t>(rows_.size())) return;
    const std::int16_t* values = values_.data() + row * depth_;
    for (std::int64_t j = 0; j < depth_; j += 32) __builtin_prefetch(values + j, 0, 2);
  }

 private:
  std::int64_t depth_;
  bool on_, filled_ = false;
  LargeArray<std::int16_t> values_;  // [rows, depth]
  std::vector<RoundedRow> rows_;
};

}  // namespace moextract::cluster
