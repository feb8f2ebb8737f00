#include "comm/watch_state.h"

#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>

#include "comm/failure.h"

namespace moextract::comm {
namespace {

std::atomic<std::int64_t> progress_count{0};

/// Where another rank has the word, the time it has to end the job before this rank does.
constexpr double kVerdictSeconds = 10;

std::string host_name() {
  char name[256] = "unknown host";
  gethostname(name, sizeof(name) - 1);
  return name;
}

std::string list(const std::vector<int>& ranks) {
  return ranks.empty() ? "none" : fmt::format("{}", fmt::join(ranks, ", "));
}

}  // namespace

void note_progress() noexcept {
  progress_count.fetch_add(1, std::memory_order_relaxed);
}
std::int64_t noted_progress() noexcept {
  return progress_count.load(std::memory_order_relaxed);
}

WatchState::WatchState(int rank, int size, std::shared_ptr<Board> board, WatchParams params)
    : rank_(rank), size_(size), board_(std::move(board)), params_(std::move(params)) {
  // Signals are for the main thread: a collective that they interrupt is resumed there, and handlers run there.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { monitor(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

WatchState::~WatchState() {
  {
    const std::lock_guard lock(mutex_);
    end_ = true;
  }
  ending_.notify_all();
  thread_.join();
}

void WatchState::enter(std::int64_t id, std::int64_t sequence, const std::vector<int>& group, std::string operation,
                       std::int64_t bytes) {
  const std::lock_guard lock(mutex_);
  state_.waiting = true;
  state_.communicator = id;
  state_.sequence = sequence;
  state_.bytes = bytes;
  state_.operation = std::move(operation);
  group_ = group;
  entered_ = looked_ = Clock::now();
  last_.clear();
}

void WatchState::leave() {
  const std::lock_guard lock(mutex_);
  state_.waiting = false;
}

RankState WatchState::snapshot() const {
  RankState state = state_;
  state.progress = noted_progress();
  state.seconds = seconds_since(entered_);
  return state;
}

void WatchState::answer() {
  if (!board_) return;
  const std::int64_t bell = board_->bell();
  RankState state;
  {
    const std::lock_guard lock(mutex_);
    if (bell <= state_.answer) return;
    state_.answer = bell;
    state = snapshot();
  }
  board_->publish(rank_, state);
  if (state.waiting && !spoke_ && board_->has_verdict()) {
    spoke_ = true;
    say(line(state));
  }
}

bool WatchState::pause() {
  std::unique_lock lock(mutex_);
  return !ending_.wait_for(lock, std::chrono::duration<double>(params_.poll), [&] { return end_; });
}

void WatchState::monitor() {
  while (pause()) {
    answer();
    bool due = false;
    {
      const std::lock_guard lock(mutex_);
      due = params_.deadline > 0 && state_.waiting && seconds_since(looked_) >= params_.deadline / 2;
    }
    if (due) examine();
  }
}

bool WatchState::still_in(const RankState& mine) {
  const std::lock_guard lock(mutex_);
  return !end_ && state_.waiting && state_.communicator == mine.communicator && state_.sequence == mine.sequence;
}

bool WatchState::look(const RankState& mine, const std::vector<int>& group, Findings& findings) {
  if (!board_) return still_in(mine);
  const std::int64_t bell = board_->ring();
  const Clock::time_point rung = Clock::now();
  std::vector<int> open = group;
  while (!open.empty()) {
    answer();
    std::erase_if(open, [&](int rank) {
      const std::optional<RankState> state = board_->read(rank);
      if (!state || state->answer < bell) return false;
      findings.states[rank] = *state;
      const bool here = state->communicator == mine.communicator && state->sequence >= mine.sequence;
      (here ? findings.arrived : findings.working).push_back(rank);
      return true;
    });
    if (open.empty() || seconds_since(rung) > params_.silence) break;
    if (!pause() || !still_in(mine)) return false;
  }
  findings.silent = open;
  for (std::vector<int>* ranks : {&findings.arrived, &findings.working}) std::sort(ranks->begin(), ranks->end());
  return still_in(mine);
}

void WatchState::examine() {
  RankState mine;
  std::vector<int> group;
  {
    const std::lock_guard lock(mutex_);
    mine = snapshot();
    group = group_;
  }
  Findings findings;
  if (!look(mine, group, findings)) return;
  // Whoever is not here, and neither begins collectives nor notes progress, is what this rank waits for.
  bool advanced = !findings.working.empty();
  {
    const std::lock_guard lock(mutex_);
    for (const int rank : findings.working) {
      const RankState& now = findings.states.at(rank);
      const auto before = last_.find(rank);
      const bool moved = before == last_.end() || before->second.communicator != now.communicator ||
                         before->second.sequence != now.sequence || before->second.progress != now.progress;
      advanced = advanced && moved;
    }
    last_ = findings.states;
    looked_ = Clock::now();
    mine.seconds = seconds_since(entered_);
  }
  if (mine.seconds < params_.deadline) return;
  if (advanced && findings.silent.empty()) return;
  report_hang(mine, group, findings, advanced);
}

std::string WatchState::line(const RankState& s) const {
  if (!s.waiting)
    return fmt::format("rank {} on {}: is in no collective, the last was number {}", rank_, host_name(), s.sequence);
  return fmt::format("moextract: watchdog: rank {} on {} waits in {}, number {}{}, {} bytes, for {:.0f} s", rank_,
                     host_name(), s.operation, s.sequence,
                     s.communicator == 0 ? "" : fmt::format(" of communicator {}", s.communicator), s.bytes, s.seconds);
}

void WatchState::report_hang(const RankState& mine, const std::vector<int>& group, const Findings& findings,
                             bool advanced) {
  const bool speaker = !board_ || board_->claim_verdict();
  if (!spoke_) say(line(mine));
  spoke_ = true;
  if (!speaker) {
    for (double waited = 0; waited < kVerdictSeconds && still_in(mine); waited += params_.poll) {
      if (!pause()) return;
    }
    if (still_in(mine)) params_.end(ExitCode::distributed);
    return;
  }
  if (board_) {
    board_->ring();  // the others say their lines
    for (double waited = 0; waited < 3 * params_.poll; waited += params_.poll) {
      if (!pause()) return;
    }
  }
  std::string cause = "what the other ranks do is not known";
  if (board_) {
    std::vector<std::string> parts{"arrived: " + list(findings.arrived)};
    for (const int rank : findings.working) {
      const RankState& s = findings.states.at(rank);
      parts.push_back(fmt::format("not arrived: {} ({}, number {}; alive, but {})", rank,
                                  s.waiting ? "waits in " + s.operation : "works after " + s.operation, s.sequence,
                                  advanced ? "slow" : "no progress"));
    }
    if (!findings.silent.empty()) {
      parts.push_back(fmt::format("not arrived: {} (no sign of life: stopped, dead, or its host is cut off)",
                                  list(findings.silent)));
    }
    if (findings.arrived.size() == group.size()) parts.emplace_back("all are there, so the network is what fails");
    cause = fmt::format("{}", fmt::join(parts, "; "));
  }
  say(fmt::format(
      "moextract: error: hang in {}, number {}, {} bytes: {}. Ended after {:.0f} s (run.deadline). Run the same "
      "command again to go on; if it happens again, look at the hosts of the ranks that did not arrive",
      mine.operation, mine.sequence, mine.bytes, cause, mine.seconds));
  params_.end(ExitCode::distributed);
}

bool WatchState::others_at_end(std::int64_t section) {
  const std::int64_t bell = board_->ring();
  for (double waited = 0; waited <= 3 * params_.poll; waited += 0.05) {
    int there = 1;
    for (int rank = 0; rank < size_; ++rank) {
      if (rank == rank_) continue;
      const std::optional<RankState> state = board_->read(rank);
      there += state && state->answer >= bell && state->ended_section >= section ? 1 : 0;
    }
    if (there == size_) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return false;
}

void WatchState::end_section(const std::exception_ptr& error) {
  std::int64_t section = 0;
  {
    const std::lock_guard lock(mutex_);
    section = ++state_.ended_section;
  }
  if (!error || !board_ || size_ == 1) return;
  const Clock::time_point start = Clock::now();
  while (seconds_since(start) < params_.grace) {
    if (others_at_end(section)) return;
  }
  const Failure failure = describe_failure(error, rank_);
  if (board_->claim_verdict()) {
    say(fmt::format("moextract: error: {}", failure.message));
  } else {
    // The rank that speaks ends the job; this is for the case that it dies before.
    std::this_thread::sleep_for(std::chrono::duration<double>(kVerdictSeconds));
  }
  params_.end(failure.code);
}

}  // namespace moextract::comm
