#include "sweep/job_pool.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <map>
#include <thread>

#include "core/error.h"

namespace moextract::sweep {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kRunAgain = static_cast<int>(ExitCode::resume);
constexpr int kCannotStart = 127;

class Pool {
 public:
  Pool(const std::vector<Job>& jobs, int side_by_side, int tries, const JobPoolEvents& events)
      : jobs_(jobs),
        side_by_side_(static_cast<std::size_t>(side_by_side)),
        tries_(tries),
        events_(events),
        results_(jobs.size()),
        ended_(jobs.size()),
        begun_(jobs.size()),
        again_(jobs.size()) {}
  /// Nobody waits for the processes any more: they are asked to save and leave.
  ~Pool() {
    for (const auto& [pid, running] : running_) ::kill(pid, SIGUSR2);
  }

  std::vector<JobResult> run() {
    bool asked = false;
    for (;;) {
      if (!asked && events_.stop()) {
        asked = stopping_ = true;
        for (const auto& [pid, running] : running_) ::kill(pid, SIGUSR2);
      }
      if (!stopping_) start_what_can();
      if (running_.empty()) break;
      if (!reap()) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    for (std::size_t i = 0; i < jobs_.size(); ++i) {
      if (!ended_[i]) results_[i].end = JobEnd::interrupted;
    }
    return std::move(results_);
  }

 private:
  struct Running {
    std::size_t job = 0;
    Clock::time_point start;
  };

  void start_what_can() {
    for (std::size_t i = 0; i < jobs_.size(); ++i) {
      if (begun_[i]) continue;
      bool ready = true;
      for (const std::size_t need : jobs_[i].needs) {
        if (!ended_[need]) {
          ready = false;
        } else if (results_[need].end != JobEnd::well) {
          begun_[i] = true;
          results_[i].blocker = results_[need].end == JobEnd::not_started ? results_[need].blocker : need;
          end(i);
          ready = false;
          break;
        }
      }
      if (ready && running_.size() < side_by_side_) start(i);
    }
  }

  void start(std::size_t i) {
    const Job& job = jobs_[i];
    const int log = ::open(job.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (log < 0) fail(ExitCode::storage, "{}: cannot be written ({})", job.log.string(), std::strerror(errno));
    std::vector<char*> arguments;
    for (const std::string& argument : job.command) arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    const pid_t parent = ::getpid();
    const pid_t pid = ::fork();
    if (pid == 0) {
      // Between fork and exec only what a signal handler may do.
      ::prctl(PR_SET_PDEATHSIG, SIGUSR2);
      if (::getppid() != parent) ::_exit(kRunAgain);
      // A group of its own: Ctrl-C reaches the sweep alone, which then asks the runs to save.
      ::setpgid(0, 0);
      const int null = ::open("/dev/null", O_RDONLY);
      ::dup2(null, STDIN_FILENO);
      ::dup2(log, STDOUT_FILENO);
      ::dup2(log, STDERR_FILENO);
      ::execv(arguments[0], arguments.data());
      ::_exit(kCannotStart);
    }
    const int error = errno;
    ::close(log);
    if (pid < 0) fail(ExitCode::other, "cannot start another process ({})", std::strerror(error));
    begun_[i] = true;
    running_[pid] = {i, Clock::now()};
    if (again_[i] == 0) events_.started(i);
  }

  /// Whether a process has ended.
  bool reap() {
    for (auto entry = running_.begin(); entry != running_.end(); ++entry) {
      int status = 0;
      if (::waitpid(entry->first, &status, WNOHANG) != entry->first) continue;
      const Running running = entry->second;
      running_.erase(entry);
      JobResult& result = results_[running.job];
      result.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      result.seconds += std::chrono::duration<double>(Clock::now() - running.start).count();
      if (result.code == kRunAgain && !stopping_ && again_[running.job] < tries_) {
        ++again_[running.job];
        start(running.job);
        return true;
      }
      // One that was asked so early that it could not listen yet has died of it.
      const bool left = result.code == kRunAgain || result.code == 128 + SIGUSR2;
      result.end = result.code == 0 ? JobEnd::well : (stopping_ && left ? JobEnd::interrupted : JobEnd::failed);
      end(running.job);
      return true;
    }
    return false;
  }

  void end(std::size_t i) {
    ended_[i] = true;
    events_.ended(i, results_[i]);
  }

  const std::vector<Job>& jobs_;
  const std::size_t side_by_side_;
  const int tries_;
  const JobPoolEvents& events_;
  std::vector<JobResult> results_;
  std::vector<bool> ended_, begun_;
  std::vector<int> again_;
  std::map<pid_t, Running> running_;
  bool stopping_ = false;
};

}  // namespace

std::vector<JobResult> run_jobs(const std::vector<Job>& jobs, int side_by_side, int tries,
                                const JobPoolEvents& events) {
  return Pool(jobs, side_by_side, tries, events).run();
}

}  // namespace moextract::sweep
