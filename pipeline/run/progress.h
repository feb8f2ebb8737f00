// How far a stage is: a bar on a terminal, otherwise a line now and then, with rate and time left.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include <spdlog/logger.h>

namespace moextract::run {

class Progress {
 public:
  /// `total` units of `unit` ("images"); silent if `logger` is null. Any thread may call add().
  Progress(std::shared_ptr<spdlog::logger> logger, std::string label, std::int64_t total, std::string unit);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `note` replaces the text behind the numbers ("loss 0.31").
  void add(std::int64_t units, const std::string& note = {});

 private:
  using Clock = std::chrono::steady_clock;
  void show(Clock::time_point now);

  std::shared_ptr<spdlog::logger> logger_;
  std::string label_, unit_, note_;
  std::int64_t total_, done_ = 0;
  bool terminal_;
  Clock::time_point start_, last_;
  std::mutex mutex_;
};

/// "1 h 02 min", "3 min 20 s", "12.3 s".
std::string duration_text(double seconds);

}  // namespace moextract::run
