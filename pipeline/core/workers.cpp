#include "core/workers.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <limits>
#include <mutex>
#include <thread>
#include <vector>

#include "core/error.h"

namespace moextract {

struct Workers::Team {
  std::mutex mutex;
  std::condition_variable wake, idle;
  std::vector<std::thread> threads;
  std::function<void()> at_start;
  bool stop = false;
  std::uint64_t round = 0;
  int busy = 0;
  // the round's work
  const std::function<void(std::int64_t, int)>* work = nullptr;
  std::int64_t count = 0;
  std::atomic<std::int64_t> next{0};
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

  void run(int worker) {
    if (at_start) at_start();
    std::uint64_t seen = 0;
    std::unique_lock lock(mutex);
    for (;;) {
      wake.wait(lock, [&] { return stop || round != seen; });
      if (stop) return;
      seen = round;
      lock.unlock();
      take_units(worker);
      lock.lock();
      if (--busy == 0) idle.notify_all();
    }
  }
};

Workers::Workers(int threads, std::function<void()> at_start) : team_(std::make_unique<Team>()) {
  MOEX_ASSERT(threads >= 1, "a team needs at least one thread");
  team_->at_start = std::move(at_start);
  if (team_->at_start) team_->at_start();
  for (int worker = 1; worker < threads; ++worker) {
    team_->threads.emplace_back([team = team_.get(), worker] { team->run(worker); });
  }
}

Workers::~Workers() {
  {
    const std::lock_guard lock(team_->mutex);
    team_->stop = true;
  }
  team_->wake.notify_all();
  for (std::thread& thread : team_->threads) thread.join();
}

int Workers::size() const { return static_cast<int>(team_->threads.size()) + 1; }

void Workers::for_each(std::int64_t count, const std::function<void(std::int64_t, int)>& work) {
  if (count <= 0) return;
  {
    const std::lock_guard lock(team_->mutex);
    team_->work = &work;
    team_->count = count;
    team_->next.store(0);
    team_->error = nullptr;
    team_->error_unit = std::numeric_limits<std::int64_t>::max();
    team_->busy = static_cast<int>(team_->threads.size());
    ++team_->round;
  }
  team_->wake.notify_all();
  team_->take_units(0);
  std::unique_lock lock(team_->mutex);
  team_->idle.wait(lock, [&] { return team_->busy == 0; });
  if (team_->error) std::rethrow_exception(team_->error);
}

int usable_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

}  // namespace moextract
