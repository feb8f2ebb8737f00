#include "model/splitting.h"

namespace moextract::model {
namespace {

thread_local Workers* team = nullptr;

/// A part runs alone: what it calls must not deal to the team again.
struct Alone {
  Workers* before = team;
  Alone() { team = nullptr; }
  ~Alone() { team = before; }
};

}  // namespace

SplitScope::SplitScope(Workers& workers) : before_(team) {
  team = &workers;
}

SplitScope::~SplitScope() {
  team = before_;
}

int split_threads() {
  return team != nullptr ? team->size() : 1;
}

void split(std::int64_t count, const std::function<void(std::int64_t part)>& work) {
  Workers* const workers = team;
  const Alone alone;
  if (workers == nullptr || workers->size() == 1 || count <= 1) {
    for (std::int64_t part = 0; part < count; ++part) work(part);
    return;
  }
  workers->for_each(count, [&](std::int64_t part, int) { work(part); });
}

RowBlocks::RowBlocks(std::int64_t n, std::int64_t most) : n_(n), units_((n + kRowUnit - 1) / kRowUnit) {
  const std::int64_t per_block = std::max<std::int64_t>(most / kRowUnit, 1), threads = split_threads();
  const std::int64_t fewest = (units_ + per_block - 1) / per_block;
  count_ = std::min((fewest + threads - 1) / threads * threads, units_);
}

}  // namespace moextract::model
