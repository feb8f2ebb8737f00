// Waiting for what may never come.
#pragma once

#include <chrono>
#include <functional>

namespace moextract::comm {

/// A wait that sleeps the longer, the longer it has lasted: a collective takes microseconds or seconds, and the thread
/// shares its core with those that feed the GPU.
class Wait {
 public:
  explicit Wait(std::chrono::milliseconds deadline) : start_(Clock::now()), end_(start_ + deadline) {}
  bool expired() const { return Clock::now() >= end_; }
  void pause() const;

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_, end_;
};

/// Runs `work`, which must not throw, on a thread of its own; false if it does not end in time: then the thread is left
/// to itself, so `work` owns what it uses.
bool ends_within(std::chrono::milliseconds limit, std::function<void()> work) noexcept;

}  // namespace moextract::comm
