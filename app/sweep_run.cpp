// moextract sweep FILE run: runs as processes side by side on this machine.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "app/sweep_command.h"
#include "app/sweep_state.h"
#include "comm/backends.h"
#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "core/workers.h"
#include "run/log.h"
#include "run/progress.h"
#include "run/stop.h"
#include "sweep/job_pool.h"

namespace moextract::app {
namespace fs = std::filesystem;
namespace {

constexpr int kTries = 3;  ///< starts in a row of a process that leaves with "run me again"

int side_by_side(const SweepOptions& options, const sweep::SweepFile& file) {
  return options.jobs > 0 ? options.jobs : file.jobs;
}

int threads_of(const SweepOptions& options, const sweep::SweepFile& file) {
  const int wanted = options.threads >= 0 ? options.threads : file.threads;
  return wanted > 0 ? wanted : std::max(1, usable_cores() / side_by_side(options, file));
}

class SweepRunner {
 public:
  SweepRunner(const SweepOptions& options, Sweep& s, spdlog::logger& log)
      : s_(s),
        log_(log),
        tasks_(unfinished_tasks(s.plan, s.status.stage_done, s.status.run_done)),
        jobs_(side_by_side(options, s.plan.file)),
        threads_(threads_of(options, s.plan.file)),
        fixed_threads_(options.threads > 0 || (options.threads < 0 && s.plan.file.threads > 0)) {}

  void run() {
    if (tasks_.empty()) {
      fmt::print("All {} runs were already done.\n", s_.plan.runs.size());
      return;
    }
    const auto shared =
        std::count_if(tasks_.begin(), tasks_.end(), [](const sweep::Task& task) { return !task.is_run; });
    log_.info("{} runs to do, {} groups of stages to make first that they share; {} side by side, {} threads each",
              tasks_.size() - static_cast<std::size_t>(shared), shared, jobs_, threads_);
    const std::vector<sweep::JobResult> results = sweep::run_jobs(make_jobs(), jobs_, kTries, events());
    warn_if_edited();
    end(results);
  }

 private:
  std::vector<sweep::Job> make_jobs() {
    const std::string program = fs::read_symlink("/proc/self/exe").string();
    write_configs(s_, tasks_, threads_);
    std::vector<sweep::Job> jobs;
    for (const sweep::Task& task : tasks_) {
      const fs::path config = s_.folder.config(s_.plan.runs[task.run].id);
      sweep::Job job{{program, "run", config.string()}, s_.folder.log(task.id), task.needs};
      for (const std::size_t stage : task.stages) {
        job.command.emplace_back("--stage");
        job.command.push_back(s_.plan.stages[stage].id);
      }
      if (threads_ != threads_at(task.level)) {
        job.command.emplace_back("--set");
        job.command.push_back(fmt::format("run.threads={}", threads_at(task.level)));
      }
      jobs.push_back(std::move(job));
    }
    return jobs;
  }

  /// Where fewer tasks stand side by side than may, they share the cores of all, unless the number of threads was asked
  /// for.
  int threads_at(int level) const {
    const auto tasks =
        std::count_if(tasks_.begin(), tasks_.end(), [&](const sweep::Task& t) { return t.level == level; });
    return fixed_threads_ || tasks >= jobs_ ? threads_ : std::max(threads_, usable_cores() / static_cast<int>(tasks));
  }

  std::string name_of(std::size_t task) const {
    const sweep::Task& t = tasks_[task];
    if (t.is_run) return fmt::format("{} ({})", t.id, s_.plan.runs[t.run].label());
    std::string stages;
    for (const std::size_t stage : t.stages) stages += (stages.empty() ? "" : ", ") + s_.plan.stages[stage].id;
    return fmt::format("{} ({}, for {} runs)", t.id, stages, s_.plan.stages[t.stages.front()].runs.size());
  }

  sweep::JobPoolEvents events() {
    return {[this](std::size_t task) {
              s_.folder.forget_exit_code(tasks_[task].id);
              log_.info("{} begins", name_of(task));
            },
            [this](std::size_t task, const sweep::JobResult& result) { note_end(task, result); },
            [] { return run::stop_requested(); }};
  }

  void note_end(std::size_t task, const sweep::JobResult& result) {
    ++ended_;
    const std::string counter = fmt::format("[{}/{}]", ended_, tasks_.size());
    const std::string& id = tasks_[task].id;
    if (result.end == sweep::JobEnd::not_started) {
      s_.folder.forget_exit_code(id);  // an earlier failure of its own is not why it fails now
      log_.error("{} {} not started: {} failed", counter, name_of(task), tasks_[result.blocker].id);
      return;
    }
    s_.folder.write_exit_code(id, result.code);
    if (result.end == sweep::JobEnd::well) {
      log_.info("{} {} done in {}", counter, name_of(task), run::duration_text(result.seconds));
    } else if (result.end == sweep::JobEnd::failed) {
      log_.error("{} {} failed (exit code {}): {}", counter, name_of(task), result.code,
                 s_.folder.cause(id, result.code));
    }
  }

  void warn_if_edited() const {
    std::error_code gone;
    if (fs::exists(s_.plan.file.file, gone) && hash_text(read_text_file(s_.plan.file.file)) == s_.plan.file.hash)
      return;
    log_.warn(
        "{} was changed meanwhile; what ran is the plan of the start. Run it again for the new one: what both "
        "share is found",
        s_.plan.file.file.string());
  }

  void end(const std::vector<sweep::JobResult>& results) {
    std::size_t done = 0, failed = 0, interrupted = 0;
    std::set<int> codes;
    std::string first;
    for (std::size_t t = 0; t < tasks_.size(); ++t) {
      const sweep::JobResult& result = results[t];
      interrupted += result.end == sweep::JobEnd::interrupted ? 1 : 0;
      if (result.end == sweep::JobEnd::failed) {
        codes.insert(result.code);
        if (first.empty()) first = name_of(t) + ": " + s_.folder.cause(tasks_[t].id, result.code);
      }
      if (!tasks_[t].is_run) continue;
      done += result.end == sweep::JobEnd::well ? 1 : 0;
      failed += result.end == sweep::JobEnd::failed || result.end == sweep::JobEnd::not_started ? 1 : 0;
    }
    const std::size_t before =
        s_.plan.runs.size() - static_cast<std::size_t>(std::count_if(tasks_.begin(), tasks_.end(),
                                                                     [](const sweep::Task& t) { return t.is_run; }));
    fmt::print("{} runs: {} done now, {} before, {} failed, {} left\n", s_.plan.runs.size(), done, before, failed,
               s_.plan.runs.size() - done - before - failed);
    if (interrupted > 0) {
      fail(ExitCode::resume, "asked to stop; what is finished is kept. Run the same command again to go on");
    }
    if (!codes.empty()) {
      const bool known = codes.size() == 1 && *codes.begin() < 128;
      fail(known ? static_cast<ExitCode>(*codes.begin()) : ExitCode::other,
           "{} of {} runs failed; the first cause: {}. Mend it and run the same command again: only these are tried",
           failed, s_.plan.runs.size(), first);
    }
    fmt::print("moextract sweep {} collect makes the table\n", s_.plan.file.file.string());
  }

  Sweep& s_;
  spdlog::logger& log_;
  const std::vector<sweep::Task> tasks_;
  const int jobs_, threads_;
  const bool fixed_threads_;
  std::size_t ended_ = 0;
};

}  // namespace

void run_sweep(const SweepOptions& options) {
  if (comm::launched_by_mpi()) {
    fail(ExitCode::usage,
         "sweep run starts processes of its own: call it without mpirun or srun; --jobs says how many");
  }
  const auto log = run::make_logger(0, 1, false);
  Sweep s(options.file);
  s.folder.claim(s.plan);
  const std::unique_ptr<run::ArtefactLock> lock = lock_sweep(s.folder, *log);
  s.status = s.folder.status(s.plan);
  look_closely(s);
  print_head(s);
  run::install_stop_handlers();
  SweepRunner(options, s, *log).run();
}

}  // namespace moextract::app
