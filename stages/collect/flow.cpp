#include "stages/collect/flow.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <thread>
#include <tuple>
#include <utility>

#include "core/error.h"

namespace moextract::stages {
namespace {

// Steps of a unit in their order: its pieces by their number, then these.
constexpr std::int64_t kComputing = std::numeric_limits<std::int64_t>::max() - 1, kWriting = kComputing + 1;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

std::string flow_text(const FlowTimes& times) {
  const double all = times.prepare + times.compute + times.wait_unit + times.wait_write;
  if (all <= 0) return "";
  const auto percent = [all](double part) { return 100.0 * part / all; };
  std::string text = fmt::format("decode {:.0f} %, forward {:.0f} %, waiting for the disk {:.0f} %",
                                 percent(times.prepare), percent(times.compute), percent(times.wait_write));
  if (percent(times.wait_unit) >= 1) text += fmt::format(", for each other {:.0f} %", percent(times.wait_unit));
  return text;
}

Flow::Flow(FlowWork work, const FlowLimits& limits, int threads)
    : work_(std::move(work)),
      limits_{std::max<std::int64_t>(limits.window, threads + 1), limits.preparers},
      preparers_(std::clamp(limits.preparers, 0, threads - 1)),  // one thread is left to compute
      slots_(static_cast<std::size_t>(limits_.window)),
      end_(work_.units),
      error_unit_(work_.units) {}

std::int64_t Flow::run(Workers& workers) {
  std::thread writer([this] { write_loop(); });
  workers.for_each(workers.size(), [this](std::int64_t unit, int) { work_loop(static_cast<int>(unit)); });
  writer.join();
  if (error_) std::rethrow_exception(error_);
  return written_;
}

FlowTimes Flow::times() const {
  const std::lock_guard lock(mutex_);
  return times_;
}

/// Called with the lock, while an exception is handled.
void Flow::fail_at(std::int64_t unit, std::int64_t step) {
  if (std::tie(unit, step) < std::tie(error_unit_, error_step_)) {
    error_unit_ = unit;
    error_step_ = step;
    error_ = std::current_exception();
  }
  end_ = std::min(end_, unit);
  changed_.notify_all();
}

/// Called with the lock. Takes the task it returns.
Flow::Task Flow::next_task(bool prepares, bool computes) {
  const std::int64_t begun = std::min({next_ + 1, written_ + limits_.window, end_});
  if (computes) {
    for (std::int64_t unit = written_; unit < begun; ++unit) {
      if (slot(unit).state != State::ready || slot(unit).pieces == 0) continue;
      slot(unit).state = State::computing;
      return {Task::Kind::compute, unit, 0};
    }
  }
  if (!prepares || next_ >= end_ || next_ - written_ >= limits_.window) return {};
  Slot& next = slot(next_);
  if (next.pieces == 0) {
    try {
      if (!work_.may_begin(next_)) {
        end_ = next_;
        changed_.notify_all();
        return {};
      }
      next = {State::preparing, 0, 0, work_.pieces(next_)};
      MOEX_ASSERT(next.pieces > 0, "a unit has at least one piece");
    } catch (...) {
      fail_at(next_, 0);
      return {};
    }
  }
  const Task task{Task::Kind::prepare, next_, next.begun++};
  if (next.begun == next.pieces) {
    ++next_;
    changed_.notify_all();  // those that only compute may have to take over what is left
  }
  return task;
}

void Flow::work_loop(int worker) {
  std::unique_lock lock(mutex_);
  while (!finished()) {
    const bool prepares = preparers_ == 0 || worker < preparers_;
    const bool computes = preparers_ == 0 || worker >= preparers_ || next_ >= end_;
    const Task task = next_task(prepares, computes);
    const Clock::time_point start = Clock::now();
    if (task.kind == Task::Kind::none) {
      if (finished()) break;
      const bool disk = next_ - written_ >= limits_.window && slot(written_).state == State::done;
      changed_.wait(lock);
      (disk ? times_.wait_write : times_.wait_unit) += seconds_since(start);
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
      fail_at(task.unit, task.kind == Task::Kind::prepare ? task.piece : kComputing);
      well = false;
    }
    lock.lock();
    Slot& done = slot(task.unit);
    if (task.kind == Task::Kind::prepare) {
      times_.prepare += seconds_since(start);
      if (well && ++done.prepared == done.pieces) done.state = State::ready;
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
    if (slot(written_).state != State::done || slot(written_).pieces == 0) {
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
    }
    changed_.notify_all();
  }
  changed_.notify_all();
}

}  // namespace moextract::stages
