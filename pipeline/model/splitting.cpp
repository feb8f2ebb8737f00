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

std::int64_t split_rows(std::int64_t n, std::int64_t most, std::int64_t unit) {
  const std::int64_t threads = split_threads();
  const std::int64_t rounds = std::max<std::int64_t>((n + most * threads - 1) / (most * threads), 1);
  const std::int64_t rows = (n + rounds * threads - 1) / (rounds * threads);
  return std::clamp((rows + unit - 1) / unit * unit, unit, std::max(most, unit));
}

}  // namespace moextract::model
