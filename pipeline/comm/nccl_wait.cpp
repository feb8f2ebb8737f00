// Waits with a deadline, whatever the call waited for does.
#include "comm/nccl_wait.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>

namespace moextract::comm {

void Wait::pause() const {
  const auto lasted = Clock::now() - start_;
  if (lasted < std::chrono::microseconds(50)) {
    std::this_thread::yield();
  } else {
    std::this_thread::sleep_for(std::min<Clock::duration>(lasted / 16, std::chrono::milliseconds(1)));
  }
}

bool ends_within(std::chrono::milliseconds limit, std::function<void()> work) noexcept {
  struct Shared {
    std::mutex mutex;
    std::condition_variable changed;
    bool done = false;
  };
  try {
    const auto shared = std::make_shared<Shared>();
    std::thread([shared, work = std::move(work)] {
      work();
      // Notified under the lock: the waiting side may be gone right after.
      const std::lock_guard lock(shared->mutex);
      shared->done = true;
      shared->changed.notify_one();
    }).detach();
    std::unique_lock lock(shared->mutex);
    return shared->changed.wait_for(lock, limit, [&] { return shared->done; });
  } catch (const std::exception&) {  // no thread to be had
    return false;
  }
}

}  // namespace moextract::comm
