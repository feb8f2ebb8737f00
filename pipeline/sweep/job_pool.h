// Processes side by side: each starts when those it needs have ended well.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace moextract::sweep {

struct Job {
  std::vector<std::string> command;  ///< program and arguments; the program is a path
  std::filesystem::path log;         ///< both outputs are appended to it
  std::vector<std::size_t> needs;    ///< indices of jobs, smaller than its own
};

enum class JobEnd { well, failed, not_started, interrupted };

struct JobResult {
  JobEnd end = JobEnd::not_started;
  int code = 0;  ///< exit code; 128 + number of the signal that ended it
  double seconds = 0;
  std::size_t blocker = SIZE_MAX;  ///< not_started: the job that failed and that this one needs
};

struct JobPoolEvents {
  std::function<void(std::size_t)> started;
  std::function<void(std::size_t, const JobResult&)> ended;  ///< also for jobs that are not started
  std::function<bool()> stop;  ///< asked often; true: no more starts, and all are asked to save
};

/// Runs the jobs, at most `side_by_side` at once, in their order as far as needs allow. A job that leaves with exit
/// code 75 without having been asked to is started again, up to `tries` times in a row. When asked to stop, the jobs
/// get SIGUSR2 and are waited for; those that end with 75 are `interrupted`, as are those not started. Should this
/// process die, the kernel sends them SIGUSR2 as well. Throws UserError (storage) if a log cannot be opened.
std::vector<JobResult> run_jobs(const std::vector<Job>& jobs, int side_by_side, int tries, const JobPoolEvents& events);

}  // namespace moextract::sweep
