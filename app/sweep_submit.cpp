// moextract sweep FILE submit: stages that runs share and the runs themselves as arrays of Slurm jobs.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <sstream>

#include "app/sweep_command.h"
#include "app/sweep_jobs.h"
#include "app/sweep_state.h"
#include "core/error.h"
#include "core/file.h"
#include "run/log.h"
#include "slurm/cluster.h"

namespace moextract::app {
namespace fs = std::filesystem;
namespace {

class SweepSubmission {
 public:
  SweepSubmission(const SweepOptions& options, Sweep& s)
      : options_(options),
        s_(s),
        tasks_(unfinished_tasks(s.plan, s.status.stage_done, s.status.run_done)),
        site_(slurm::read_site(options.job.site)),
        jobs_(s.folder.root()) {}

  bool empty() const { return tasks_.empty(); }

  void print() {
    for (const Array& array : arrays(slurm::max_array_size())) fmt::print("{}", script(array, "afterany:JOB"));
  }

  void submit() {
    write_configs(s_, tasks_, 0);
    make_folder(jobs_.root());
    std::error_code ignored;
    fs::remove(s_.folder.root() / "state/cancelled", ignored);
    forget_counts();
    jobs_.write({});
    std::vector<SweepJob> submitted;
    std::vector<std::string> level_ids, before;
    int level = 0;
    for (const Array& array : arrays(slurm::max_array_size())) {
      if (array.level != level) {
        before = std::move(level_ids);
        level_ids.clear();
        level = array.level;
      }
      write_file_atomically(jobs_.tasks(array.name), tasks_text(array));
      const fs::path path = jobs_.script(array.name);
      write_file_atomically(path,
                            script(array, before.empty() ? "" : fmt::format("afterany:{}", fmt::join(before, ":"))));
      submitted.push_back({submit_one(path, submitted), array.name});
      level_ids.push_back(submitted.back().id);
      jobs_.write(submitted);  // at once: a job that nobody remembers cannot be cancelled
      fmt::print(
          "job {}: {} of {}\n", submitted.back().id, array.tasks.size(),
          tasks_[array.tasks.front()].is_run ? "the runs" : fmt::format("the shared stages, level {}", array.level));
    }
    fmt::print("moextract sweep {} status tells how far it is\n", options_.file.string());
  }

 private:
  struct Array {
    std::string name;
    int level = 0;
    std::vector<std::size_t> tasks;
  };

  /// The tasks by level, no array larger than the cluster allows.
  std::vector<Array> arrays(std::int64_t most) const {
    std::vector<Array> all;
    std::map<int, int> parts;
    for (int level = 0; level <= (tasks_.empty() ? -1 : tasks_.back().level); ++level) {
      for (std::size_t t = 0; t < tasks_.size(); ++t) {
        if (tasks_[t].level != level) continue;
        const bool is_new =
            all.empty() || all.back().level != level || static_cast<std::int64_t>(all.back().tasks.size()) == most;
        if (is_new) {
          const std::string stem = tasks_[t].is_run ? "runs" : fmt::format("shared-{}", level);
          all.push_back({fmt::format("{}-{}", stem, parts[level]++), level, {}});
        }
        all.back().tasks.push_back(t);
      }
    }
    return all;
  }

  std::string tasks_text(const Array& array) const {
    std::string text;
    for (const std::size_t t : array.tasks) {
      const sweep::Task& task = tasks_[t];
      std::string needs;
      for (const std::size_t need : task.needs) needs += (needs.empty() ? "" : ",") + tasks_[need].id;
      std::string stages;
      for (const std::size_t stage : task.stages) stages += (stages.empty() ? "" : ",") + s_.plan.stages[stage].id;
      text +=
          fmt::format("{}\t{}\t{}\t{}\n", task.id, fs::absolute(s_.folder.config(s_.plan.runs[task.run].id)).string(),
                      task.is_run ? "-" : stages, needs.empty() ? "-" : needs);
    }
    return text;
  }

  std::string script(const Array& array, const std::string& dependency) const {
    slurm::JobRequest request = job_request(options_.job);
    request.name = fmt::format("{}-{}", s_.plan.file.name, array.name);
    request.program = job_program(options_.job);
    request.output = jobs_.root() / "%A_%a.log";
    request.dependency = array.level == 0 ? "" : dependency;
    const std::int64_t throttle = options_.jobs > 0 ? options_.jobs : site_.array_throttle;
    request.array = fmt::format("0-{}%{}", array.tasks.size() - 1, throttle);
    request.tasks = jobs_.tasks(array.name);
    request.folder = fs::absolute(s_.folder.root()).lexically_normal();
    return slurm::job_script(request, slurm::job_template());
  }

  static std::string submit_one(const fs::path& path, const std::vector<SweepJob>& earlier) {
    try {
      return slurm::submit(path);
    } catch (const UserError& error) {
      if (earlier.empty()) throw;
      throw UserError(error.code(),
                      fmt::format("{}. {} arrays were submitted before and stay in the queue; when they have "
                                  "ended, submit again: only what is missing is submitted",
                                  error.what(), earlier.size()));
    }
  }

  /// Starts without progress are counted anew.
  void forget_counts() const {
    std::error_code ignored;
    for (const sweep::Task& task : tasks_) fs::remove(s_.folder.root() / "state" / task.id / "tries", ignored);
  }

  const SweepOptions& options_;
  Sweep& s_;
  const std::vector<sweep::Task> tasks_;
  const slurm::SiteParams site_;
  const SweepJobs jobs_;
};

}  // namespace

SweepJobs::SweepJobs(const fs::path& sweep_folder) : root_(fs::absolute(sweep_folder / "slurm").lexically_normal()) {}

std::vector<SweepJob> SweepJobs::read() const {
  std::vector<SweepJob> jobs;
  if (!fs::exists(root_ / "jobs")) return jobs;
  std::istringstream stream(read_text_file(root_ / "jobs"));
  for (SweepJob job; stream >> job.id >> job.array;) jobs.push_back(job);
  return jobs;
}

void SweepJobs::write(const std::vector<SweepJob>& jobs) const {
  std::string text;
  for (const SweepJob& job : jobs) text += job.id + " " + job.array + "\n";
  write_file_atomically(root_ / "jobs", text);
}

std::map<std::string, slurm::QueuedJob> SweepJobs::active() const {
  std::map<std::string, slurm::QueuedJob> of_task;
  std::vector<std::string> ids;
  std::map<std::string, std::vector<std::string>> names;  // of the tasks, by job
  for (const SweepJob& job : read()) {
    ids.push_back(job.id);
    std::istringstream lines(read_text_file(tasks(job.array)));
    for (std::string line; std::getline(lines, line);) names[job.id].push_back(line.substr(0, line.find('\t')));
  }
  for (slurm::QueuedJob& job : slurm::queue(ids)) {
    const std::size_t under = job.id.find('_');
    if (under == std::string::npos) continue;
    const std::vector<std::string>& tasks = names[job.id.substr(0, under)];
    const std::size_t index = std::strtoul(job.id.c_str() + under + 1, nullptr, 10);
    if (index < tasks.size()) of_task[tasks[index]] = std::move(job);
  }
  return of_task;
}

void submit_sweep(const SweepOptions& options) {
  const auto log = run::make_logger(0, 1, false);
  if (!options.print) slurm::need_slurm();
  Sweep s(options.file);
  if (options.print) {
    SweepSubmission submission(options, s);
    if (submission.empty())
      fmt::print(stderr, "all {} runs are done: there is nothing to submit\n", s.plan.runs.size());
    submission.print();
    return;
  }
  s.folder.claim(s.plan);
  const std::unique_ptr<run::ArtefactLock> lock = lock_sweep(s.folder, *log);
  if (const auto active = SweepJobs(s.folder.root()).active(); !active.empty()) {
    fail(ExitCode::conflict,
         "{} jobs of this sweep are in the queue already, job {} among them; moextract sweep {} cancel takes "
         "them away",
         active.size(), active.begin()->second.id, options.file.string());
  }
  s.status = s.folder.status(s.plan);
  look_closely(s);
  print_head(s);
  SweepSubmission submission(options, s);
  if (submission.empty()) {
    fmt::print("All {} runs were already done.\n", s.plan.runs.size());
    return;
  }
  submission.submit();
}

void cancel_sweep(const SweepOptions& options) {
  const Sweep s(options.file);
  const SweepJobs jobs(s.folder.root());
  const auto active = jobs.active();
  if (active.empty()) {
    fmt::print("no job of this sweep is in the queue\n");
    return;
  }
  write_file_atomically(s.folder.root() / "state/cancelled", "");
  std::size_t saved = 0;
  for (const auto& [task, job] : active) {
    if (!options.now && job.state == "RUNNING" && slurm::ask_to_save(job.id)) {
      ++saved;
    } else {
      slurm::cancel(job.id);
    }
  }
  fmt::print("{} jobs were asked to save and leave, {} were cancelled\n", saved, active.size() - saved);
}

}  // namespace moextract::app
