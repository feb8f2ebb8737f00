// Sums of gradients that do not depend on who computed which part: every micro-batch's gradient is turned into integers
// (units of 2^-52), and integers add up to the same number in any order, on any number of threads and ranks.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "comm/communicator.h"

namespace moextract::train {

class GradientSum {
 public:
  /// `length` gradient values plus `scalars` extra integers that travel in the same reduction; `parts` = number of
  /// micro-batches of the whole step over all ranks, which bounds what a part may hold. Memory: 8 bytes a value.
  GradientSum(std::int64_t length, std::int64_t scalars, std::int64_t parts);

  void clear();
  /// Adds values at `offset`. Returns false, adding nothing, if one is NaN or too large to be summed without overflow
  /// (magnitude 2^10 / parts and more: training has diverged).
  bool add(std::int64_t offset, std::span<const float> values);
  void add_scalar(std::int64_t index, std::int64_t value) { sums_[static_cast<std::size_t>(length_ + index)] += value; }
  /// Adds another thread's sums.
  void merge(const GradientSum& other);
  /// Collective: one all-reduce of 64-bit integers.
  void all_reduce(comm::Communicator& comm);

  /// The sums as float32 (one rounding).
  void read(std::int64_t offset, std::span<float> values) const;
  std::int64_t scalar(std::int64_t index) const { return sums_[static_cast<std::size_t>(length_ + index)]; }

 private:
  std::int64_t length_;
  float limit_;
  std::vector<std::int64_t> sums_;
};

}  // namespace moextract::train
