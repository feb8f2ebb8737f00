// The rows that may still be among the nearest of a row, while pairs stream by.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "cluster/hdbscan_rows.h"

namespace moextract::cluster::hdbscan {

/// For each of `count` rows, all rows offered so far that may be among its `length` nearest by (distance, index). Rows
/// may be offered in any order and by several threads: what is thrown away is proven not to be among the nearest, so
/// what is left in the end holds them whatever the order was.
class Candidates {
 public:
  struct Neighbour {
    double distance;
    std::int32_t index;
    auto operator<=>(const Neighbour&) const = default;
  };

  /// `from` and `to` as in nearest_among().
  Candidates(std::span<const float> from, std::int64_t count, std::span<const float> to, std::int64_t dimension,
             std::int64_t length);

  /// No row whose squared distance is certainly greater than this is among the nearest of row i. Infinity at first.
  float bound(std::int64_t i) const {
    return slots_[static_cast<std::size_t>(i)].bound.load(std::memory_order_relaxed);
  }
  /// Offers row j of `to`, at a squared distance within [low, high], to row i. Returns the bound afterwards.
  float offer(std::int64_t i, std::int32_t j, float low, float high);

  /// How many candidates of row i are certainly at a squared distance of at most `bound`. Not while rows are offered.
  std::int32_t count_within(std::int64_t i, float bound) const;
  /// Lowers the bound of row i to one found elsewhere. Not while rows are offered.
  void lower_bound(std::int64_t i, float bound);
  /// The at most `length` nearest of what was offered to row i and is not above the bound, by (distance, index).
  std::vector<Neighbour> nearest(std::int64_t i) const;

 private:
  struct Entry {
    float low, high;
    std::int32_t index;
  };
  struct Slot {
    std::atomic<float> bound;
    std::atomic_flag busy;
    std::int32_t count = 0;
    std::int32_t useless_from;  // rows with this index or a greater one are not among the nearest
  };

  void tighten(std::int64_t i);
  void decide(std::int64_t i);
  Neighbour measure(std::int64_t i, std::int32_t j) const;

  std::span<const float> from_, to_;
  std::int64_t dimension_;
  std::int32_t length_, capacity_;
  std::vector<Slot> slots_;
  std::vector<Entry> entries_;  // [count, capacity_]
};

}  // namespace moextract::cluster::hdbscan
