#include "run/stop.h"

#include <signal.h>

#include <atomic>
#include <initializer_list>

namespace moextract::run {
namespace {

std::atomic<bool> stop_flag{false};
static_assert(std::atomic<bool>::is_always_lock_free, "set from a signal handler");

void on_signal(int) {
  stop_flag.store(true);
}

}  // namespace

void install_stop_handlers() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  // The default returns with the next signal, so that an impatient second one is not swallowed; system calls go on.
  action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGTERM, SIGUSR2, SIGINT}) sigaction(signal, &action, nullptr);
}

bool stop_requested() noexcept {
  return stop_flag.load();
}
void request_stop() noexcept {
  stop_flag.store(true);
}

}  // namespace moextract::run
