// Dealing the parts of one forward pass to a team of threads.
//
// A stage gives each thread a batch of its own; where batches are few or small, one batch can be split instead. Parts
// are rows, heads or experts, and each is computed as it would be alone: the split changes no bit of a result.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>

#include "core/workers.h"

namespace moextract::model {

/// While it lives, forward passes of this thread are split over `workers`. Not within a unit of their work.
class SplitScope {
 public:
  explicit SplitScope(Workers& workers);
  ~SplitScope();
  SplitScope(const SplitScope&) = delete;
  SplitScope& operator=(const SplitScope&) = delete;

 private:
  Workers* before_;
};

/// Threads that `split` deals to, at least 1.
int split_threads();

/// work(part) for part in 0 .. count-1, on the scope's team or, without one, here. Exceptions as Workers::for_each.
void split(std::int64_t count, const std::function<void(std::int64_t part)>& work);

/// n rows in blocks of at most `most` (at least kRowUnit): as many for every thread of the split where there are rows
/// enough, and of equal size within kRowUnit.
class RowBlocks {
 public:
  RowBlocks(std::int64_t n, std::int64_t most);
  std::int64_t count() const { return count_; }
  /// The block's first row; begin(count()) is n.
  std::int64_t begin(std::int64_t block) const {
    return count_ == 0 ? 0 : std::min(n_, units_ * block / count_ * kRowUnit);
  }
  std::int64_t size(std::int64_t block) const { return begin(block + 1) - begin(block); }

  /// What the kernels hold in registers at a time, or a multiple of it.
  static constexpr std::int64_t kRowUnit = 12;

 private:
  std::int64_t n_, units_, count_;
};

}  // namespace moextract::model
