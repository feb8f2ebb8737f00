// The folder of a sweep: whose it is, what each task left there, and how far each run is.
//
//   sweep.json               which sweep file it belongs to, and the runs it had
//   configs/<run>.yaml       the whole configuration of a run, fixed when it was first started
//   runs/<run>/              the run's own folder: record, report, results.json
//   logs/<task>.log          what its process said; appended to
//   state/<task>.exit        exit code of its last process
//   lock                     held by the process that runs the sweep
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "sweep/plan.h"

namespace moextract::sweep {

enum class RunState { to_do, running, interrupted, failed, done };

struct RunStatus {
  RunState state = RunState::to_do;
  std::string detail;  ///< who is at it, or why it failed
};

struct SweepStatus {
  std::vector<bool> stage_done;  ///< DONE is there; its files are looked at when a run needs them
  std::vector<bool> run_done;
  std::vector<RunStatus> runs;
  std::size_t count(RunState state) const;
};

class SweepFolder {
 public:
  explicit SweepFolder(std::filesystem::path root) : root_(std::move(root)) {}

  const std::filesystem::path& root() const { return root_; }
  std::filesystem::path config(const std::string& run) const { return root_ / "configs" / (run + ".yaml"); }
  std::filesystem::path run(const std::string& run) const { return root_ / "runs" / run; }
  std::filesystem::path log(const std::string& task) const { return root_ / "logs" / (task + ".log"); }
  std::filesystem::path exit_file(const std::string& task) const { return root_ / "state" / (task + ".exit"); }
  std::filesystem::path lock() const { return root_ / "lock"; }

  /// Throws UserError (conflict) if the folder belongs to another sweep or to something else. An absent one is free.
  void check_owner(const SweepFile& file) const;
  /// check_owner(), makes the folders and writes sweep.json. Throws UserError (conflict, storage).
  void claim(const Plan& plan) const;

  std::optional<int> exit_code(const std::string& task) const;
  void write_exit_code(const std::string& task, int code) const;
  void forget_exit_code(const std::string& task) const;
  /// The message of the task's last error, from its log, or "exit code N".
  std::string cause(const std::string& task, int code) const;

  /// How far the sweep is, as far as files tell. Reads only.
  SweepStatus status(const Plan& plan) const;

 private:
  RunStatus status_of(const Plan& plan, const PlannedRun& run, const std::vector<bool>& stage_done) const;

  std::filesystem::path root_;
};

/// "to do", "running", ...
std::string state_text(RunState state);

}  // namespace moextract::sweep
