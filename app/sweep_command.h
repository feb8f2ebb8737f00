// moextract sweep: plan, run, submit, status, cancel and collect.
#pragma once

#include <filesystem>
#include <string>

#include "app/submit_command.h"

namespace moextract::app {

struct SweepOptions {
  std::filesystem::path file;
  std::string action;  ///< "plan", "run", "submit", "status", "cancel" or "collect"
  int jobs = 0;        ///< runs side by side; 0: as the file, or for submit the site file, says
  int threads = -1;    ///< of each; -1: as the file says, 0: the cores divided by jobs
  bool all = false;    ///< list every run
  bool now = false;    ///< cancel without saving
  bool print = false;  ///< submit: the scripts to standard output, nothing is submitted
  JobOptions job;      ///< submit
};

/// One process, no ranks: runs are processes or jobs of their own. Throws UserError.
void sweep_command(const SweepOptions& options);

/// Throws UserError; where runs failed, with their exit code.
void run_sweep(const SweepOptions& options);
/// Shared stages as arrays of jobs, level by level, then the runs as an array that depends on them.
void submit_sweep(const SweepOptions& options);
void cancel_sweep(const SweepOptions& options);

}  // namespace moextract::app
