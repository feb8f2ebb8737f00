#include "run/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "comm/watched.h"

namespace moextract::run {
namespace {

constexpr double kBarSeconds = 0.2;         // between two drawings on a terminal
constexpr double kHeartbeatSeconds = 10.0;  // between two lines in a log
constexpr int kBarWidth = 20;

}  // namespace

std::string duration_text(double seconds) {
  if (seconds < 60) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<std::int64_t>(seconds + 0.5);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole % 3600 / 60);
}

Progress::Progress(std::shared_ptr<spdlog::logger> logger, std::string label, std::int64_t total, std::string unit)
    : logger_(std::move(logger)),
      label_(std::move(label)),
      unit_(std::move(unit)),
      total_(total),
      terminal_(isatty(STDERR_FILENO) != 0),
      start_(Clock::now()),
      last_(start_) {}

Progress::~Progress() {
  if (logger_ && terminal_ && done_ > 0) std::fputs("\r\x1b[K", stderr);
}

void Progress::add(std::int64_t units, const std::string& note) {
  comm::note_progress();
  const std::lock_guard lock(mutex_);
  done_ += units;
  if (!note.empty()) note_ = note;
  if (!logger_) return;
  const Clock::time_point now = Clock::now();
  const double since = std::chrono::duration<double>(now - last_).count();
  if (since >= (terminal_ ? kBarSeconds : kHeartbeatSeconds)) {
    last_ = now;
    show(now);
  }
}

void Progress::show(Clock::time_point now) {
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double rate = static_cast<double>(done_) / std::max(seconds, 1e-9);
  const double left = rate > 0 ? static_cast<double>(total_ - done_) / rate : 0;
  const std::string text = fmt::format("{}: {} of {} {}, {:.1f} a second, {} left{}{}", label_, done_, total_, unit_,
                                       rate, duration_text(left), note_.empty() ? "" : ", ", note_);
  if (terminal_) {
    const auto filled = static_cast<int>(kBarWidth * done_ / std::max<std::int64_t>(total_, 1));
    std::string line = fmt::format("[{:.<{}}] {}", std::string(static_cast<std::size_t>(filled), '#'), kBarWidth, text);
    // A line that wraps could not be drawn over.
    winsize size{};
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1)
      line.resize(std::min<std::size_t>(line.size(), size.ws_col - 1U));
    fmt::print(stderr, "\r\x1b[K{}", line);
    std::fflush(stderr);
  } else {
    logger_->info(text);
  }
}

}  // namespace moextract::run
