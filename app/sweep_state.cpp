#include "app/sweep_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <set>

#include "core/error.h"
#include "core/file.h"
#include "run/artefact.h"
#include "run/stop.h"
#include "stages/sweep_plan.h"

namespace moextract::app {
namespace fs = std::filesystem;

Sweep::Sweep(const fs::path& file) : plan(stages::plan_sweep(file)), folder(plan.file.folder) {
  folder.check_owner(plan.file);
  status = folder.status(plan);
}

void print_head(const Sweep& s) {
  const sweep::Plan& plan = s.plan;
  fmt::print("sweep {}: {} runs of {}, folder {}\n", plan.file.name, plan.runs.size(), plan.file.base.string(),
             s.folder.root().string());
  if (plan.excluded + plan.repeated > 0) {
    fmt::print("{} combinations: {} excluded by constraints, {} the same as another one\n", plan.combinations,
               plan.excluded, plan.repeated);
  }
}

void look_closely(Sweep& s) {
  bool any = false;
  for (std::size_t i = 0; i < s.plan.stages.size(); ++i) {
    if (!s.status.stage_done[i]) continue;
    s.status.stage_done[i] = run::ArtefactStore::state_of(s.plan.stages[i].folder) == run::ArtefactState::done;
    any = any || !s.status.stage_done[i];
  }
  if (!any) return;
  for (std::size_t r = 0; r < s.plan.runs.size(); ++r) {
    const std::vector<std::size_t>& stages = s.plan.runs[r].stages;
    const bool whole = std::all_of(stages.begin(), stages.end(), [&](std::size_t i) { return s.status.stage_done[i]; });
    s.status.run_done[r] = s.status.run_done[r] && whole;
  }
}

std::unique_ptr<run::ArtefactLock> lock_sweep(const sweep::SweepFolder& folder, spdlog::logger& log) {
  // One on another host counts as dead when it has been silent for a while, which has to be waited for.
  const auto start = std::chrono::steady_clock::now();
  const auto holder = run::ArtefactLock::holder(folder.lock());
  const std::string host = run::ArtefactLock::this_process().host;
  const auto keep_waiting = [&] {
    return holder && holder->host != host && !run::stop_requested() &&
           std::chrono::steady_clock::now() - start < std::chrono::seconds(70);
  };
  try {
    return std::make_unique<run::ArtefactLock>(folder.lock(), log, keep_waiting);
  } catch (const UserError& error) {
    if (error.code() != ExitCode::resume) throw;
    fail(ExitCode::conflict, "{}: {} is running this sweep; wait for it, or end it (SIGTERM: it saves)",
         folder.root().string(), holder ? holder->text() : "another process");
  }
}

void write_configs(const Sweep& s, const std::vector<sweep::Task>& tasks, int threads) {
  std::set<std::size_t> written;
  for (const sweep::Task& task : tasks) {
    if (!written.insert(task.run).second) continue;
    const sweep::PlannedRun& run = s.plan.runs[task.run];
    const fs::path path = s.folder.config(run.id);
    const std::string text = stages::run_config_text(s.plan, run, s.folder.run(run.id), threads);
    if (!fs::exists(path) || read_text_file(path) != text) write_file_atomically(path, text);
  }
}

}  // namespace moextract::app
