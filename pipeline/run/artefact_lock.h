// Who makes an artefact: one process at a time, over all hosts that share the store.
//
// The lock is a file beside the artefact's folder, created with O_EXCL (which network file systems honour, other than
// flock). It names host, process and job; a thread of the holder touches it every few seconds. A holder is dead if its
// process is gone (same host) or if the file's time stands still for as long as kStaleSeconds while one watches
// (another host; no clocks are compared).
#pragma once

#include <spdlog/logger.h>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

namespace moextract::run {

struct LockTiming {
  double beat = 10;   ///< seconds between two touches
  double stale = 60;  ///< of watching without a touch, after which a holder on another host counts as dead
  double look = 0.5;  ///< seconds between two looks of one who waits
};

/// Contents of a lock file.
struct LockHolder {
  std::string host, job, token;
  std::int64_t pid = 0;
  std::uint64_t started = 0;    ///< start time of the process, so that a number used again is no false life
  std::uint64_t pid_space = 0;  ///< containers may share a host name, but not process numbers
  /// "process 4711 on node3 (job 99)"
  std::string text() const;
};

class ArtefactLock {
 public:
  /// Waits until the lock is free or its holder is dead, then takes it. Logs whom it waits for and whom it takes over
  /// from. `keep_waiting` is asked at every look; false: throws UserError (resume). Throws UserError (storage) if the
  /// file cannot be created.
  ArtefactLock(std::filesystem::path file, spdlog::logger& log, const std::function<bool()>& keep_waiting,
               LockTiming timing = {});
  /// Removes the file if it is still this object's.
  ~ArtefactLock();
  ArtefactLock(const ArtefactLock&) = delete;
  ArtefactLock& operator=(const ArtefactLock&) = delete;

  /// False once another process has taken over, because this one stood still for too long.
  bool held() const;

  /// Who holds `file`, or nothing if there is no such file. An unreadable one has an empty host.
  static std::optional<LockHolder> holder(const std::filesystem::path& file);
  /// Whether the holder is known to be dead: a process of this host that is gone.
  static bool is_gone(const LockHolder& holder);
  /// Removes the lock of a finished artefact whose maker died between finishing it and letting go. Who takes it over in
  /// the same moment finds the artefact done, and loses nothing with the file. Never fails.
  static void clear_away(const std::filesystem::path& file) noexcept;
  static LockHolder this_process();

 private:
  bool try_create(const std::filesystem::path& file) const;
  void take_over(const LockHolder& dead);
  void beat();

  const std::filesystem::path file_;
  const LockHolder mine_;
  const LockTiming timing_;
  std::mutex mutex_;
  std::condition_variable ending_;
  bool end_ = false;
  std::thread thread_;
};

}  // namespace moextract::run
