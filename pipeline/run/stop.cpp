#include "run/stop.h"

#include <fmt/format.h>
#include <signal.h>

#include <atomic>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <string_view>

namespace moextract::run {
namespace {

using Clock = std::chrono::system_clock;

std::atomic<bool> stop_flag{false};
std::atomic<int> stop_signal{0};
std::atomic<Clock::rep> stop_time{std::numeric_limits<Clock::rep>::max()};
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free,
              "set from a signal handler");

void on_signal(int signal) {
  stop_signal.store(signal);
  stop_flag.store(true);
}

bool is_time() noexcept {
  return Clock::now().time_since_epoch().count() >= stop_time.load();
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
  return stop_flag.load() || is_time();
}
void request_stop() noexcept {
  stop_flag.store(true);
}
void stop_at(Clock::time_point time) noexcept {
  const Clock::rep wanted = time.time_since_epoch().count();
  Clock::rep now = stop_time.load();
  while (wanted < now && !stop_time.compare_exchange_weak(now, wanted)) {
  }
}

std::string stop_reason() {
  if (const int signal = stop_signal.load(); signal != 0) {
    return fmt::format("signal {} ({})", signal, ::strsignal(signal));
  }
  if (is_time()) return "the end of the job's time is near";
  return stop_flag.load() ? "asked to" : "";
}

std::optional<Clock::time_point> slurm_end_time() {
  const char* value = std::getenv("SLURM_JOB_END_TIME");
  if (value == nullptr) return std::nullopt;
  const std::string_view text(value);
  std::int64_t seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc() || end != text.data() + text.size() || seconds <= 0) return std::nullopt;
  return Clock::time_point(std::chrono::seconds(seconds));
}

}  // namespace moextract::run
