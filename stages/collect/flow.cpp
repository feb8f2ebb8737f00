#include "stages/collect/flow.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <system_error>
#include <thread>
#include <tuple>
#include <utility>

#include "core/error.h"

namespace moextract::stages {
namespace {

// Steps of a unit in their order: it begins, its pieces by their number are read and prepared, then these.
constexpr std::int64_t kBeginning = -1, kComputing = std::numeric_limits<std::int64_t>::max() - 1,
                       kWriting = kComputing + 1;
constexpr std::int64_t reading(std::int64_t piece) {
  return 2 * piece;
}
constexpr std::int64_t preparing(std::int64_t piece) {
  return 2 * piece + 1;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

std::string flow_text(const FlowTimes& times) {
  const double all = times.prepare + times.compute + times.wait_read + times.wait_write + times.wait_unit;
  if (all <= 0) return "";
  const auto percent = [all](double part) { return 100.0 * part / all; };
  std::string text =
      fmt::format("decode {:.0f} %, forward {:.0f} %, waiting for reading {:.0f} %, for writing {:.0f} %",
                  percent(times.prepare), percent(times.compute), percent(times.wait_read), percent(times.wait_write));
  if (percent(times.wait_unit) >= 1) text += fmt::format(", for each other {:.0f} %", percent(times.wait_unit));
  return text;
}

Flow::Flow(FlowWork work, const FlowLimits& limits, int threads)
    : work_(std::move(work)),
      limits_{std::max<std::int64_t>(limits.window, threads + 1),
              std::clamp(limits.preparers, 0, threads - 1),  // one thread is left to compute
              std::max(limits.readers, 1)},
      slots_(static_cast<std::size_t>(limits_.window)),
      end_(work_.units),
      stop_(work_.units),
      error_unit_(work_.units) {}

std::int64_t Flow::run(Workers& workers) {
  std::vector<std::thread> others;
  try {
    others.emplace_back([this] { write_loop(); });
    for (int i = 0; i < limits_.readers; ++i) others.emplace_back([this] { read_loop(); });
  } catch (const std::system_error& error) {
    // Those that did start must end before the error may leave.
    const std::lock_guard lock(mutex_);
    fail_at(0, kBeginning,
            std::make_exception_ptr(UserError(
                ExitCode::other, fmt::format("cannot start {} threads that read and one that writes ({}): give a "
                                             "smaller collect.read_threads",
                                             limits_.readers, error.what()))));
  }
  workers.for_each(workers.size(), [this](std::int64_t unit, int) { work_loop(static_cast<int>(unit)); });
  for (std::thread& other : others) other.join();
  if (error_) std::rethrow_exception(error_);
  return written_;
}

FlowTimes Flow::times() const {
  const std::lock_guard lock(mutex_);
  return times_;
}

// All of these are called with the lock.

void Flow::end_at(std::int64_t unit) {
  end_ = std::min(end_, unit);
  changed_.notify_all();
  room_.notify_all();
}

/// `error`, if it is not given: the exception that is handled.
void Flow::fail_at(std::int64_t unit, std::int64_t step, std::exception_ptr error) {
  if (unit >= stop_) return;  // it was read ahead in vain
  if (std::tie(unit, step) < std::tie(error_unit_, error_step_)) {
    error_unit_ = unit;
    error_step_ = step;
    error_ = std::move(error);
  }
  end_at(unit);
}

/// Of the failing unit, what comes before the failing step is still done: it may fail, too, and is the one to report.
bool Flow::may_prepare(std::int64_t unit, std::int64_t piece) const {
  return unit < end_ || (error_ && unit == error_unit_ && preparing(piece) < error_step_);
}

bool Flow::finished() {
  if (written_ < end_) return false;
  if (!error_ || error_step_ <= kBeginning) return true;
  if (allowed_ <= error_unit_) return false;  // it may have been read ahead of a stop
  const std::vector<Piece>& pieces = slot(error_unit_).pieces;
  for (std::int64_t p = 0; p < static_cast<std::int64_t>(pieces.size()); ++p) {
    if (may_prepare(error_unit_, p) && pieces[static_cast<std::size_t>(p)] != Piece::prepared) return false;
  }
  return true;
}

/// Takes the task it returns. Reading begins in ascending order, so what comes before a failing step has begun.
Flow::Task Flow::next_read() {
  if (next_ >= end_ || next_ - written_ >= limits_.window) return {};
  Slot& next = slot(next_);
  if (next.pieces.empty()) {
    try {
      const std::int64_t pieces = work_.pieces(next_);
      MOEX_ASSERT(pieces > 0, "a unit has at least one piece");
      next.pieces.assign(static_cast<std::size_t>(pieces), Piece::unread);
    } catch (...) {
      fail_at(next_, kBeginning);
      return {};
    }
  }
  const Task task{Task::Kind::read, next_, next.begun++};
  next.pieces[static_cast<std::size_t>(task.piece)] = Piece::reading;
  if (next.begun == static_cast<std::int64_t>(next.pieces.size())) {
    ++next_;
    if (next_ >= end_) {
      changed_.notify_all();  // those that only prepared compute, too
      room_.notify_all();
    }
  }
  return task;
}

/// Whether units up to this one may begin.
bool Flow::begin_until(std::int64_t unit) {
  for (; allowed_ <= unit; ++allowed_) {
    try {
      if (work_.may_begin(allowed_)) continue;
      stop_ = allowed_;
      if (error_unit_ >= stop_) {
        error_ = nullptr;
        error_unit_ = work_.units;
        error_step_ = 0;
      }
      end_at(stop_);
    } catch (...) {
      fail_at(allowed_, kBeginning);
    }
    return false;
  }
  return true;
}

/// Takes the task it returns.
Flow::Task Flow::next_task(bool prepares, bool computes) {
  if (computes) {
    for (std::int64_t unit = written_; unit < std::min(begun(), end_); ++unit) {
      if (slot(unit).state != State::ready) continue;
      slot(unit).state = State::computing;
      return {Task::Kind::compute, unit, 0};
    }
  }
  if (written_ >= end_ && error_ && allowed_ <= error_unit_ && begin_until(error_unit_)) changed_.notify_all();
  if (!prepares) return {};
  for (std::int64_t unit = written_; unit < begun(); ++unit) {
    std::vector<Piece>& pieces = slot(unit).pieces;
    for (std::int64_t p = 0; p < static_cast<std::int64_t>(pieces.size()); ++p) {
      Piece& piece = pieces[static_cast<std::size_t>(p)];
      if (piece != Piece::read || !may_prepare(unit, p)) continue;
      if (!begin_until(unit)) return {};
      piece = Piece::preparing;
      return {Task::Kind::prepare, unit, p};
    }
  }
  return {};
}

/// Why a thread that has nothing to do has nothing to do.
bool Flow::waits_for_reading(bool prepares) {
  bool behind = next_ < end_ && next_ - written_ < limits_.window;
  for (std::int64_t unit = written_; unit < std::min(begun(), end_); ++unit) {
    for (const Piece piece : slot(unit).pieces) {
      if (!prepares && (piece == Piece::read || piece == Piece::preparing)) return false;
      behind = behind || piece == Piece::unread || piece == Piece::reading;
    }
  }
  return behind;
}

void Flow::read_loop() {
  std::unique_lock lock(mutex_);
  while (next_ < end_) {
    const Task task = next_read();
    if (task.kind == Task::Kind::none) {
      if (next_ < end_) room_.wait(lock);
      continue;
    }
    const Clock::time_point start = Clock::now();
    lock.unlock();
    bool well = true;
    try {
      work_.read(task.unit, task.piece);
    } catch (...) {
      const std::lock_guard again(mutex_);
      fail_at(task.unit, reading(task.piece));
      well = false;
    }
    lock.lock();
    times_.read += seconds_since(start);
    if (well) slot(task.unit).pieces[static_cast<std::size_t>(task.piece)] = Piece::read;
    changed_.notify_all();
  }
}

void Flow::work_loop(int worker) {
  std::unique_lock lock(mutex_);
  while (!finished()) {
    const bool prepares = limits_.preparers == 0 || worker < limits_.preparers;
    const bool computes = limits_.preparers == 0 || worker >= limits_.preparers || next_ >= end_;
    const Task task = next_task(prepares, computes);
    const Clock::time_point start = Clock::now();
    if (task.kind == Task::Kind::none) {
      if (finished()) break;
      const bool full = next_ - written_ >= limits_.window;
      double& waited = full && slot(written_).state == State::done ? times_.wait_write
                       : waits_for_reading(prepares)               ? times_.wait_read
                                                                   : times_.wait_unit;
      changed_.wait(lock);
      waited += seconds_since(start);
      continue;
    }
    lock.unlock();
    bool well = true;
    try {
      if (task.kind == Task::Kind::prepare) {
        work_.prepare(task.unit, task.piece);
      } else {
        work_.compute(task.unit);
      }
    } catch (...) {
      const std::lock_guard again(mutex_);
      fail_at(task.unit, task.kind == Task::Kind::prepare ? preparing(task.piece) : kComputing);
      well = false;
    }
    lock.lock();
    Slot& done = slot(task.unit);
    if (task.kind == Task::Kind::prepare) {
      times_.prepare += seconds_since(start);
      if (well) {
        done.pieces[static_cast<std::size_t>(task.piece)] = Piece::prepared;
        if (++done.prepared == static_cast<std::int64_t>(done.pieces.size())) done.state = State::ready;
      }
    } else {
      times_.compute += seconds_since(start);
      if (well) done.state = State::done;
    }
    changed_.notify_all();
  }
  changed_.notify_all();
}

void Flow::write_loop() {
  std::unique_lock lock(mutex_);
  while (!finished()) {
    if (written_ >= end_ || slot(written_).state != State::done) {
      changed_.wait(lock);
      continue;
    }
    const std::int64_t unit = written_;
    lock.unlock();
    const Clock::time_point start = Clock::now();
    bool well = true;
    try {
      work_.write(unit);
    } catch (...) {
      const std::lock_guard again(mutex_);
      fail_at(unit, kWriting);
      well = false;
    }
    lock.lock();
    times_.write += seconds_since(start);
    if (well) {
      slot(unit) = {};
      ++written_;
      room_.notify_all();
    }
    changed_.notify_all();
  }
  changed_.notify_all();
}

}  // namespace moextract::stages
