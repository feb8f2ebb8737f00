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

/// Rows of a block if n rows are to be split evenly and a block holds at most `most`: a multiple of `unit` that gives
/// every thread as many blocks, within one.
std::int64_t split_rows(std::int64_t n, std::int64_t most, std::int64_t unit);

}  // namespace moextract::model
