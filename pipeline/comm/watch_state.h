// What one rank's main thread is doing, as its monitor thread sees it, and what the monitor does about it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "comm/watched.h"

namespace moextract::comm {

/// Shared by a watched communicator and those split off it.
class WatchState {
 public:
  WatchState(int rank, int size, std::shared_ptr<Board> board, WatchParams params);
  ~WatchState();
  WatchState(const WatchState&) = delete;
  WatchState& operator=(const WatchState&) = delete;

  /// The main thread goes into a collective of the communicator `id`, whose ranks have the numbers `group` in the
  /// world.
  void enter(std::int64_t id, std::int64_t sequence, const std::vector<int>& group, std::string operation,
             std::int64_t bytes);
  void leave();
  /// A new communicator's number: the same on all ranks, for splits are collective.
  std::int64_t next_communicator() { return ++communicators_; }

  /// This rank has come to the end of a section of work. With an error, waits for the others to come to its end too;
  /// ends the job if they do not within the grace.
  void end_section(const std::exception_ptr& error);

 private:
  using Clock = std::chrono::steady_clock;
  /// Ranks of the group, told apart by what the board says of them.
  struct Findings {
    std::vector<int> arrived, working, silent;
    std::map<int, RankState> states;
  };

  void monitor();
  void answer();
  RankState snapshot() const;  // mutex_ is held
  /// Rings and waits for answers; nothing if the collective ended meanwhile.
  bool look(const RankState& mine, const std::vector<int>& group, Findings& findings);
  void examine();
  void report_hang(const RankState& mine, const std::vector<int>& group, const Findings& findings, bool advanced);
  bool still_in(const RankState& mine);
  bool others_at_end(std::int64_t section);
  std::string line(const RankState& state) const;
  void say(const std::string& text) const { params_.say(text); }
  double seconds_since(Clock::time_point time) const {
    return std::chrono::duration<double>(Clock::now() - time).count();
  }
  /// Sleeps for one poll; false if the monitor is to end.
  bool pause();

  const int rank_, size_;
  const std::shared_ptr<Board> board_;
  const WatchParams params_;
  std::int64_t communicators_ = 0;

  mutable std::mutex mutex_;
  std::condition_variable ending_;
  bool end_ = false;
  RankState state_;                ///< without the numbers that snapshot() adds
  std::vector<int> group_;         ///< of the collective under way
  Clock::time_point entered_;      ///< it
  Clock::time_point looked_;       ///< at the others, last
  std::map<int, RankState> last_;  ///< what was seen of ranks that had not come
  bool spoke_ = false;             ///< this rank's line of a verdict has been said
  std::thread thread_;
};

}  // namespace moextract::comm
