// Rows held in memory as a source of blocks: for tests, for samples, and for users who have their rows at hand.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "cluster/row_source.h"
#include "core/error.h"

namespace moextract::cluster {

class MemoryRows : public RowSource {
 public:
  /// `rows` is [n, dimension] float16 bits; the first of them has global number `first_global`. Blocks of `block_rows`.
  MemoryRows(std::vector<std::uint16_t> rows, std::int64_t dimension, std::int64_t first_global = 0,
             std::int64_t block_rows = 4096)
      : rows_(std::move(rows)), dimension_(dimension), first_global_(first_global), block_rows_(block_rows) {
    MOEX_ASSERT(dimension > 0 && block_rows > 0, "dimension and block size must be positive");
    MOEX_ASSERT(rows_.size() % static_cast<std::size_t>(dimension) == 0, "not a whole number of rows");
  }

  std::int64_t dimension() const override { return dimension_; }
  std::int64_t local_rows() const override { return static_cast<std::int64_t>(rows_.size()) / dimension_; }
  void for_each_block(const std::function<void(const RowBlock&)>& visit) const override {
    for (std::int64_t first = 0; first < local_rows(); first += block_rows_) {
      const std::int64_t count = std::min(block_rows_, local_rows() - first);
      visit({.first_local = first,
             .first_global = first_global_ + first,
             .count = count,
             .rows = std::span(rows_).subspan(static_cast<std::size_t>(first * dimension_),
                                              static_cast<std::size_t>(count * dimension_))});
    }
  }

 private:
  std::vector<std::uint16_t> rows_;
  std::int64_t dimension_, first_global_, block_rows_;
};

}  // namespace moextract::cluster
