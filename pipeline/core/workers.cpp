#include "core/workers.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <limits>
#include <mutex>
#include <thread>
#include <vector>

#include "core/error.h"

namespace moextract {
namespace {

/// How long a thread looks for work, or for the others' end, before it sleeps: a forward pass deals every few hundred
/// microseconds, and waking a thread takes tens of them.
constexpr std::chrono::microseconds kPatience{300};

void rest_a_moment() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

struct Workers::Team {
  std::vector<std::thread> threads;
  std::function<void()> at_start;
  bool looks = false;  // whether there is a core for each thread to look around on
  bool stop = false;
  // One thread changes `round` to start one, after all that follows is set; `busy` is 0 when all others have left it.
  std::atomic<std::uint32_t> round{0};
  std::atomic<std::uint32_t> busy{0};
  const std::function<void(std::int64_t, int)>* work = nullptr;
  std::int64_t count = 0;
  std::atomic<std::int64_t> next{0};
  std::mutex mutex;  // of the error
  std::exception_ptr error;
  std::int64_t error_unit = std::numeric_limits<std::int64_t>::max();

  void take_units(int worker) {
    for (;;) {
      const std::int64_t unit = next.fetch_add(1);
      if (unit >= count) return;
      try {
        (*work)(unit, worker);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (unit < error_unit) {
          error_unit = unit;
          error = std::current_exception();
        }
        next.store(count);  // no further units; those begun are finished
        return;
      }
    }
  }

  /// Waits until `value` is no longer `old`; what was written before it changed is seen. Looks for a while, lets others
  /// have the core in between, then sleeps.
  void wait_for_change(const std::atomic<std::uint32_t>& value, std::uint32_t old) const {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (looks && std::chrono::steady_clock::now() < end) {
      for (int i = 0; i < 64; ++i) {
        if (value.load(std::memory_order_acquire) != old) return;
        rest_a_moment();
      }
      std::this_thread::yield();
    }
    value.wait(old, std::memory_order_acquire);
  }

  void run(int worker) {
    if (at_start) at_start();
    std::uint32_t seen = 0;
    for (;;) {
      wait_for_change(round, seen);
      ++seen;  // none is left out: the next begins when this one is over
      if (stop) return;
      take_units(worker);
      if (busy.fetch_sub(1, std::memory_order_acq_rel) == 1) busy.notify_all();
    }
  }

  void start_round() {
    round.fetch_add(1, std::memory_order_release);
    round.notify_all();
  }
};

Workers::Workers(int threads, std::function<void()> at_start) : team_(std::make_unique<Team>()) {
  MOEX_ASSERT(threads >= 1, "a team needs at least one thread");
  team_->looks = threads <= usable_cores();
  team_->at_start = std::move(at_start);
  if (team_->at_start) team_->at_start();
  for (int worker = 1; worker < threads; ++worker) {
    team_->threads.emplace_back([team = team_.get(), worker] { team->run(worker); });
  }
}

Workers::~Workers() {
  team_->stop = true;
  team_->start_round();
  for (std::thread& thread : team_->threads) thread.join();
}

int Workers::size() const {
  return static_cast<int>(team_->threads.size()) + 1;
}

void Workers::for_each(std::int64_t count, const std::function<void(std::int64_t, int)>& work) {
  if (count <= 0) return;
  team_->work = &work;
  team_->count = count;
  team_->next.store(0);
  team_->error = nullptr;
  team_->error_unit = std::numeric_limits<std::int64_t>::max();
  team_->busy.store(static_cast<std::uint32_t>(team_->threads.size()));
  team_->start_round();
  team_->take_units(0);
  for (std::uint32_t busy; (busy = team_->busy.load(std::memory_order_acquire)) != 0;) {
    team_->wait_for_change(team_->busy, busy);
  }
  if (team_->error) std::rethrow_exception(team_->error);
}

int usable_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

}  // namespace moextract
