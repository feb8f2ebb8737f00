// Reading, computing and writing at the same time: units of work that pass three stages, with bounded memory.
#pragma once

#include <algorithm>
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

/// What is done with units 0 .. units-1. A unit consists of pieces (its images); each is read, by threads that do
/// nothing else and run ahead, then prepared. Then the unit is computed as a whole; both by any thread of the team.
/// Then it is written: by one thread, in ascending order.
struct FlowWork {
  std::int64_t units = 0;
  /// Of a unit, at least one. Asked in ascending order, before the unit is read.
  std::function<std::int64_t(std::int64_t unit)> pieces;
  /// Asked once a unit, in ascending order, before the unit is prepared; false ends the flow.
  std::function<bool(std::int64_t unit)> may_begin;
  std::function<void(std::int64_t unit, std::int64_t piece)> read;
  std::function<void(std::int64_t unit, std::int64_t piece)> prepare;
  std::function<void(std::int64_t unit)> compute;
  std::function<void(std::int64_t unit)> write;
};

struct FlowLimits {
  std::int64_t window = 4;  ///< units underway at most: reading has begun and they are not yet written
  int preparers = 0;        ///< threads that prepare; the others compute. 0: each does what is needed most
  int readers = 1;          ///< threads that read, besides those of the team; at least one
};

/// Where the time went, in seconds, summed over threads.
struct FlowTimes {
  // Of the team.
  double prepare = 0, compute = 0;
  double wait_read = 0;   ///< for pieces to be read
  double wait_write = 0;  ///< because all units underway wait for the writer
  double wait_unit = 0;   ///< for another thread of the team
  // Of threads of their own.
  double read = 0, write = 0;
};
/// "decode 31 %, forward 60 %, waiting for reading 8 %, for writing 0 %": shares of the team's time. Empty before there
/// is any.
std::string flow_text(const FlowTimes& times);

/// Runs the work on all threads of a team. Blocks; not collective.
///
/// Reading fills the window and waits there. With `preparers` 0 a thread computes the oldest unit that is ready, else
/// prepares the oldest piece that was read: no core idles while there is work of any kind, whatever the two cost.
/// Otherwise a fixed number of threads prepares, as where computing is left to a device; when all was read, they
/// compute, too.
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
  enum class Piece : std::uint8_t { unread, reading, read, preparing, prepared };
  enum class State { preparing, ready, computing, done };
  struct Slot {
    State state = State::preparing;
    std::vector<Piece> pieces;  ///< empty: reading has not begun
    std::int64_t begun = 0;     ///< pieces whose reading has begun
    std::int64_t prepared = 0;  ///< pieces
  };
  struct Task {
    enum class Kind { read, prepare, compute, none } kind = Kind::none;
    std::int64_t unit = 0, piece = 0;
  };

  Slot& slot(std::int64_t unit) { return slots_[static_cast<std::size_t>(unit % limits_.window)]; }
  /// The unit after the last one of which a piece may have been read.
  std::int64_t begun() const { return std::min({next_ + 1, written_ + limits_.window, work_.units}); }
  bool finished();
  bool may_prepare(std::int64_t unit, std::int64_t piece) const;
  Task next_read();
  Task next_task(bool prepares, bool computes);
  bool begin_until(std::int64_t unit);
  bool waits_for_reading(bool prepares);
  void read_loop();
  void work_loop(int worker);
  void write_loop();
  void end_at(std::int64_t unit);
  void fail_at(std::int64_t unit, std::int64_t step, std::exception_ptr error = std::current_exception());

  const FlowWork work_;
  const FlowLimits limits_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;  ///< for the team and the writer
  std::condition_variable room_;     ///< for readers
  std::vector<Slot> slots_;
  std::int64_t next_ = 0;     ///< the unit that is read, or would be next
  std::int64_t allowed_ = 0;  ///< units before this one may begin
  std::int64_t written_ = 0;  ///< units that were written
  std::int64_t end_;          ///< units from here on are not finished
  std::int64_t stop_;         ///< the unit that may not begin
  std::exception_ptr error_;
  std::int64_t error_unit_, error_step_ = 0;
  FlowTimes times_;
};

}  // namespace moextract::stages
