#include "cluster/hdbscan_leave.h"

#include <algorithm>
#include <array>
#include <exception>
#include <span>

namespace moextract::cluster::hdbscan {
namespace {

/// Ends a rank's pass over its rows when all ranks leave. Not seen outside.
struct PassEnded {};

}  // namespace

Stopped::Stopped() : UserError(ExitCode::resume, "HDBSCAN was asked to stop; it begins anew") {}

void Leave::ask() const {
  if (!should_stop_) return;
  if (comm_.all_reduce_value<std::int32_t>(should_stop_() ? 1 : 0, comm::Reduction::max) > 0) throw Stopped();
}

void Leave::for_each(Workers& workers, std::int64_t count, std::int64_t unit_cost,
                     const std::function<void(std::int64_t unit, int worker)>& work) const {
  if (!should_stop_) {
    workers.for_each(count, work);
    return;
  }
  constexpr std::int64_t kRoundCost = 10'000'000'000;  // multiply-adds of a worker
  const std::int64_t at_once =
      std::max<std::int64_t>(1, kRoundCost / std::max<std::int64_t>(1, unit_cost)) * workers.size();
  const std::int64_t rounds = comm_.all_reduce_value((count + at_once - 1) / at_once, comm::Reduction::max);
  for (std::int64_t round = 0; round < rounds; ++round) {
    const std::int64_t first = std::min(count, round * at_once), last = std::min(count, first + at_once);
    workers.for_each(last - first, [&](std::int64_t unit, int worker) { work(first + unit, worker); });
    ask();
  }
}

void Leave::over_rows(std::int64_t rows, std::int64_t each,
                      const std::function<void(const std::function<void()>& pause)>& work) const {
  if (!should_stop_) {
    comm_.together([&] { work([] {}); });
    return;
  }
  std::int64_t pauses = comm_.all_reduce_value(rows / each, comm::Reduction::max);
  bool stopped = false;
  std::exception_ptr error;
  const auto meet = [&] {
    std::array<std::int32_t, 2> flags = {error ? 1 : 0, should_stop_() ? 1 : 0};
    comm_.all_reduce(std::span<std::int32_t>(flags), comm::Reduction::max);
    --pauses;
    if (flags[0] > 0 || flags[1] > 0) pauses = 0;
    stopped = flags[0] == 0 && flags[1] > 0;
    return flags[0] > 0 || flags[1] > 0;
  };
  try {
    work([&] {
      if (meet()) throw PassEnded();
    });
  } catch (const PassEnded&) {
  } catch (...) {
    error = std::current_exception();
  }
  while (pauses > 0) meet();
  if (stopped) throw Stopped();
  comm_.agree(error);
}

}  // namespace moextract::cluster::hdbscan
