// Reading, computing and writing at the same time: units of work that pass three stages, with bounded memory.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "core/workers.h"

namespace moextract::stages {

/// What is done with units 0 .. units-1. A unit is prepared in pieces (its images), then computed as a whole, both by
/// any thread, then written: by one thread, in ascending order.
struct FlowWork {
  std::int64_t units = 0;
  std::function<std::int64_t(std::int64_t unit)> pieces;  ///< of a unit, at least one
  std::function<bool(std::int64_t unit)> may_begin;  ///< asked once a unit, in ascending order; false ends the flow
  std::function<void(std::int64_t unit, std::int64_t piece)> prepare;
  std::function<void(std::int64_t unit)> compute;
  std::function<void(std::int64_t unit)> write;
};

struct FlowLimits {
  std::int64_t window = 4;  ///< units underway at most: begun and not yet written
  int preparers = 0;        ///< threads that prepare; the others compute. 0: each does what is needed most
};

/// Where the time of the threads went, in seconds, summed over the threads.
struct FlowTimes {
  double prepare = 0, compute = 0;
  double wait_unit = 0;   ///< for a unit to prepare or to compute
  double wait_write = 0;  ///< because all units underway wait for the writer
  double write = 0;       ///< of the writer, a thread of its own
};
/// "decode 31 %, forward 66 %, waiting for the disk 0 %": shares of the threads' time. Empty before there is any.
std::string flow_text(const FlowTimes& times);

/// Runs the work on all threads of a team. Blocks; not collective.
///
/// With `preparers` 0 a thread computes the oldest unit that is ready, else prepares the next piece: no core idles
/// while there is work of any kind, whatever the two cost. Otherwise a fixed number of threads prepares, as where
/// computing is left to a device; when nothing is left to prepare, they compute.
class Flow {
 public:
  Flow(FlowWork work, const FlowLimits& limits, int threads);
  /// Returns the number of units that were written: all, unless may_begin said no. If a step throws, units before that
  /// one are finished and written, later ones are dropped, and the exception of the first failing step of the smallest
  /// failing unit leaves: the same one on any number of threads.
  std::int64_t run(Workers& workers);
  /// So far; may be asked from inside of a step.
  FlowTimes times() const;

 private:
  using Clock = std::chrono::steady_clock;
  enum class State { preparing, ready, computing, done };
  struct Slot {
    State state = State::preparing;
    std::int64_t begun = 0, prepared = 0, pieces = 0;
  };
  struct Task {
    enum class Kind { prepare, compute, none } kind = Kind::none;
    std::int64_t unit = 0, piece = 0;
  };

  Slot& slot(std::int64_t unit) { return slots_[static_cast<std::size_t>(unit % limits_.window)]; }
  bool finished() const { return written_ >= end_; }
  Task next_task(bool prepares, bool computes);
  void work_loop(int worker);
  void write_loop();
  void fail_at(std::int64_t unit, std::int64_t step);

  const FlowWork work_;
  const FlowLimits limits_;
  const int preparers_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Slot> slots_;
  std::int64_t next_ = 0;     ///< the unit that is prepared, or would be begun next
  std::int64_t written_ = 0;  ///< units that were written
  std::int64_t end_;          ///< units from here on are not finished
  std::exception_ptr error_;
  std::int64_t error_unit_, error_step_ = 0;
  FlowTimes times_;
};

}  // namespace moextract::stages
