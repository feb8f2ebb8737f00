// Rows in memory with a weight each.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "cluster/memory_rows.h"

namespace moextract::cluster {

class WeightedRows : public MemoryRows {
 public:
  WeightedRows(std::vector<std::uint16_t> bits, std::int64_t dimension, std::vector<std::uint32_t> weights,
               std::int64_t first_global = 0)
      : MemoryRows(std::move(bits), dimension, first_global, 64), weights_(std::move(weights)) {}
  void for_each_block(const std::function<void(const RowBlock&)>& visit) const override {
    MemoryRows::for_each_block([&](const RowBlock& block) {
      RowBlock weighted = block;
      weighted.weights = std::span(weights_).subspan(block.first_local, block.count);
      visit(weighted);
    });
  }

 private:
  std::vector<std::uint32_t> weights_;
};

}  // namespace moextract::cluster
