#include "app/sweep_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "app/sweep_jobs.h"
#include "app/sweep_state.h"
#include "core/error.h"
#include "core/file.h"
#include "core/json_text.h"
#include "run/artefact_lock.h"
#include "run/progress.h"
#include "sweep/page.h"
#include "sweep/sweep_cost.h"
#include "sweep/table.h"

namespace moextract::app {
namespace fs = std::filesystem;
using nlohmann::json;
using sweep::RunState;
namespace {

constexpr std::size_t kShownRuns = 40;

std::string bytes_text(double bytes) {
  for (const char* unit : {"B", "KB", "MB", "GB"}) {
    if (bytes < 1000) return fmt::format("{:.3g} {}", bytes, unit);
    bytes /= 1000;
  }
  return fmt::format("{:.3g} TB", bytes);
}

std::string counts_text(const sweep::SweepStatus& status) {
  std::string text;
  for (const RunState state :
       {RunState::done, RunState::running, RunState::interrupted, RunState::failed, RunState::to_do}) {
    if (const std::size_t count = status.count(state); count > 0)
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, state_text(state));
  }
  return text;
}

void print_runs(const Sweep& s, bool all) {
  const std::size_t shown = all ? s.plan.runs.size() : std::min(kShownRuns, s.plan.runs.size());
  for (std::size_t r = 0; r < shown; ++r) {
    const sweep::PlannedRun& run = s.plan.runs[r];
    fmt::print("{}  {:<8} {}\n", run.id, state_text(s.status.runs[r].state), run.label());
  }
  if (shown < s.plan.runs.size()) fmt::print("... and {} more: --all lists them\n", s.plan.runs.size() - shown);
}

void plan_action(const SweepOptions& options) {
  const Sweep s(options.file);
  print_head(s);
  fmt::print("{}\n\n", counts_text(s.status));
  print_runs(s, options.all);
  const std::vector<sweep::StageCost> costs = sweep::stage_costs(s.plan, s.status);
  fmt::print("\n{:<20} {:>8} {:>10} {:>6} {:>8}  {}\n", "stage", "wanted", "different", "done", "to make", "each");
  std::size_t wanted = 0, different = 0, to_make = 0;
  double seconds = 0, bytes = 0;
  std::string unknown;
  for (const sweep::StageCost& cost : costs) {
    fmt::print(
        "{:<20} {:>8} {:>10} {:>6} {:>8}  {}\n", cost.kind, cost.wanted, cost.different, cost.done, cost.to_make(),
        cost.seconds ? fmt::format("{} of a core, by {} made earlier", run::duration_text(*cost.seconds), cost.measured)
                     : "-");
    wanted += cost.wanted;
    different += cost.different;
    to_make += cost.to_make();
    bytes += cost.bytes;
    if (cost.to_make() == 0) continue;
    if (cost.seconds) {
      seconds += *cost.seconds * static_cast<double>(cost.to_make());
    } else {
      unknown += (unknown.empty() ? "" : ", ") + cost.kind;
    }
  }
  const std::vector<sweep::Task> tasks = unfinished_tasks(s.plan, s.status.stage_done, s.status.run_done);
  const auto shared = std::count_if(tasks.begin(), tasks.end(), [](const sweep::Task& task) { return !task.is_run; });
  fmt::print("\n{} stages are wanted, {} are different, {} are to be made: {} processes for shared ones, {} for runs\n",
             wanted, different, to_make, shared, tasks.size() - static_cast<std::size_t>(shared));
  const std::string known = seconds > 0 || unknown.empty() ? run::duration_text(seconds) + " of a core" : "";
  fmt::print("cost: {}{}{}\n", to_make == 0 ? "nothing" : known,
             unknown.empty() ? ""
                             : fmt::format("{}{}, of which none was made in this store yet",
                                           known.empty() ? "not known of " : ", and ", unknown),
             bytes > 0 ? fmt::format("; {} of shards", bytes_text(bytes)) : "");
}

/// What the queue knows and files do not.
void add_queue(Sweep& s) {
  const SweepJobs jobs(s.folder.root());
  if (jobs.read().empty()) return;
  std::map<std::string, slurm::QueuedJob> active;
  try {
    active = jobs.active();
  } catch (const UserError& error) {
    fmt::print("{}\n", error.what());  // files tell the rest
  }
  for (std::size_t r = 0; r < s.plan.runs.size(); ++r) {
    const auto job = active.find(s.plan.runs[r].id);
    if (job == active.end() || s.status.runs[r].state == RunState::done) continue;
    s.status.runs[r].state = job->second.state == "RUNNING" ? RunState::running : RunState::to_do;
    s.status.runs[r].detail =
        fmt::format("job {}: {}{}", job->second.id, job->second.state,
                    job->second.state == "RUNNING" ? " on " + job->second.nodes : " (" + job->second.reason + ")");
  }
}

void status_action(const SweepOptions& options) {
  Sweep s(options.file);
  add_queue(s);
  print_head(s);
  fmt::print("{}\n", counts_text(s.status));
  if (const auto holder = run::ArtefactLock::holder(s.folder.lock()); holder && !run::ArtefactLock::is_gone(*holder))
    fmt::print("run by {}\n", holder->text());
  std::size_t shown = 0, more = 0;
  for (std::size_t r = 0; r < s.plan.runs.size(); ++r) {
    const sweep::RunStatus& status = s.status.runs[r];
    const bool plain = status.detail.empty() && (status.state == RunState::done || status.state == RunState::to_do);
    if (plain && !options.all) continue;
    if (shown == kShownRuns && !options.all) {
      ++more;
      continue;
    }
    ++shown;
    fmt::print("{}  {:<8} {}{}{}\n", s.plan.runs[r].id, state_text(status.state), s.plan.runs[r].label(),
               status.detail.empty() ? "" : "\n                ", status.detail);
  }
  if (more > 0) fmt::print("... and {} more: --all lists them\n", more);
}

void collect_action(const SweepOptions& options) {
  Sweep s(options.file);
  sweep::SweepResults results{s.plan, s.status, {}, {}};
  for (std::size_t r = 0; r < s.plan.runs.size(); ++r) {
    if (!s.status.run_done[r]) continue;
    const fs::path file = s.folder.run(s.plan.runs[r].id) / "results.json";
    const json value = parse_json(read_text_file(file));
    if (value.is_discarded()) {
      fail(ExitCode::input, "{}: is damaged; delete it and run the sweep again, which makes it anew", file.string());
    }
    for (sweep::Row& row : sweep::rows_of(s.plan.runs[r], value)) results.rows.push_back(std::move(row));
  }
  print_head(s);
  fmt::print("{}\n", counts_text(s.status));
  if (results.rows.empty()) {
    fail(ExitCode::input, "{}: no run is done yet; moextract sweep {} run", s.folder.root().string(),
         options.file.string());
  }
  sweep::mark_pareto(results.rows);
  results.groups = sweep::spread_over_seeds(results.rows, s.plan.file.seeds);
  const fs::path& root = s.folder.root();
  write_file_atomically(root / "results.csv", sweep::rows_csv(results.rows, s.plan.varied));
  if (!results.groups.empty()) write_file_atomically(root / "seeds.csv", sweep::groups_csv(results.groups));
  write_file_atomically(root / "results.html", sweep::render_page(results));
  fmt::print("{}", sweep::render_text(results));
  for (const char* name : {"results.csv", "seeds.csv", "results.html"}) {
    if (results.groups.empty() && std::string_view(name) == "seeds.csv") continue;
    fmt::print("{}\n", fs::absolute(root / name).lexically_normal().string());
  }
}

}  // namespace

void sweep_command(const SweepOptions& options) {
  const std::map<std::string, void (*)(const SweepOptions&)> actions{
      {"plan", plan_action},     {"run", run_sweep},       {"submit", submit_sweep},
      {"status", status_action}, {"cancel", cancel_sweep}, {"collect", collect_action}};
  actions.at(options.action)(options);
}

}  // namespace moextract::app
