#include "sweep/plan.h"

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/hash.h"

namespace moextract::sweep {
using nlohmann::json;

std::string PlannedRun::label() const {
  std::string text;
  for (const Setting& setting : varied) text += (text.empty() ? "" : ", ") + setting.key + "=" + setting.value;
  return text;
}

PlanBuilder::PlanBuilder(SweepFile file) {
  plan_.file = std::move(file);
  for (const GridKey& axis : plan_.file.grid) plan_.varied.push_back(axis.key);
  for (const Settings& entry : plan_.file.list) {
    for (const Setting& setting : entry) {
      if (std::find(plan_.varied.begin(), plan_.varied.end(), setting.key) == plan_.varied.end())
        plan_.varied.push_back(setting.key);
    }
  }
  for (const DrawnKey& drawn : plan_.file.drawn) plan_.varied.push_back(drawn.key);
}

void PlanBuilder::count_combination(bool excluded) {
  ++plan_.combinations;
  if (excluded) ++plan_.excluded;
}

bool PlanBuilder::begin_run(Settings settings, const json& values, const std::string& identity) {
  const std::string id = "run-" + hash_text(identity).substr(0, 10);
  if (!run_ids_.try_emplace(id, plan_.runs.size()).second) {
    ++plan_.repeated;
    return false;
  }
  PlannedRun& run = plan_.runs.emplace_back();
  run.id = id;
  run.settings = std::move(settings);
  for (const std::string& key : plan_.varied) {
    std::string path = "/" + key;
    std::replace(path.begin(), path.end(), '.', '/');
    const json& value = values.at(json::json_pointer(path));
    run.varied.push_back({key, value.is_string() ? value.get<std::string>() : value.dump()});
  }
  return true;
}

void PlanBuilder::add_stages(const run::StageGraph& graph, const std::map<std::string, double>& bytes) {
  PlannedRun& run = plan_.runs.back();
  plan_.store = graph.store().root();
  std::map<std::string, std::size_t> of_id;
  for (const run::StageNode& node : graph.nodes()) {
    const std::string name = node.spec.folder_name();
    const auto [place, is_new] = stage_names_.try_emplace(name, plan_.stages.size());
    if (is_new) {
      PlannedStage& stage = plan_.stages.emplace_back();
      stage.name = name;
      stage.id = node.id;
      stage.folder = graph.store().root() / name;
      if (const auto known = bytes.find(node.id); known != bytes.end()) stage.bytes = known->second;
      for (const std::string& need : node.needs) stage.needs.push_back(of_id.at(need));
    }
    of_id[node.id] = place->second;
    plan_.stages[place->second].runs.push_back(plan_.runs.size() - 1);
    run.stages.push_back(place->second);
  }
}

Plan PlanBuilder::finish() && {
  // A key that has the same value everywhere is not worth a column.
  for (std::size_t k = plan_.varied.size(); k-- > 0 && plan_.runs.size() > 1;) {
    const auto is_same = [&](const PlannedRun& run) { return run.varied[k] == plan_.runs.front().varied[k]; };
    if (!std::all_of(plan_.runs.begin(), plan_.runs.end(), is_same)) continue;
    plan_.varied.erase(plan_.varied.begin() + static_cast<std::ptrdiff_t>(k));
    for (PlannedRun& run : plan_.runs) run.varied.erase(run.varied.begin() + static_cast<std::ptrdiff_t>(k));
  }
  for (PlannedStage& stage : plan_.stages) {
    if (stage.runs.size() < 2) continue;
    Hasher hasher;
    for (const std::size_t run : stage.runs) hasher.add(plan_.runs[run].id + "\n");
    stage.task = "shared-" + hasher.hex().substr(0, 10);
  }
  return std::move(plan_);
}

std::vector<Task> unfinished_tasks(const Plan& plan, const std::vector<bool>& stage_done,
                                   const std::vector<bool>& run_done) {
  // The stages of each task. More runs come first, for what a stage needs is wanted by at least its own runs.
  std::map<std::string, std::vector<std::size_t>> stages_of;
  for (std::size_t s = 0; s < plan.stages.size(); ++s) {
    const PlannedStage& stage = plan.stages[s];
    const auto unfinished =
        std::count_if(stage.runs.begin(), stage.runs.end(), [&](std::size_t run) { return !run_done[run]; });
    if (!stage_done[s] && unfinished > 1) stages_of[stage.task].push_back(s);
  }
  std::vector<Task> tasks;
  for (auto& [id, stages] : stages_of) {
    const std::vector<std::size_t>& runs = plan.stages[stages.front()].runs;
    Task task{.id = id, .is_run = false, .run = 0, .stages = std::move(stages), .needs = {}};
    task.run = *std::find_if(runs.begin(), runs.end(), [&](std::size_t run) { return !run_done[run]; });
    tasks.push_back(std::move(task));
  }
  std::stable_sort(tasks.begin(), tasks.end(), [&](const Task& a, const Task& b) {
    const PlannedStage &first = plan.stages[a.stages.front()], &second = plan.stages[b.stages.front()];
    if (first.runs.size() != second.runs.size()) return first.runs.size() > second.runs.size();
    return first.runs < second.runs;
  });
  std::map<std::string, std::size_t> place;
  for (std::size_t t = 0; t < tasks.size(); ++t) place[tasks[t].id] = t;
  const auto add_needs = [&](Task& task, const std::vector<std::size_t>& stages) {
    std::set<std::size_t> needs;
    for (const std::size_t s : stages) {
      const auto other = place.find(plan.stages[s].task);
      if (!stage_done[s] && other != place.end() && plan.stages[s].task != task.id) needs.insert(other->second);
    }
    task.needs.assign(needs.begin(), needs.end());
  };
  int last_level = 0;
  for (Task& task : tasks) {
    std::vector<std::size_t> read;
    for (const std::size_t s : task.stages)
      read.insert(read.end(), plan.stages[s].needs.begin(), plan.stages[s].needs.end());
    add_needs(task, read);
    for (const std::size_t need : task.needs) task.level = std::max(task.level, tasks[need].level + 1);
    last_level = std::max(last_level, task.level + 1);
  }
  for (std::size_t r = 0; r < plan.runs.size(); ++r) {
    if (run_done[r]) continue;
    Task task{.id = plan.runs[r].id, .is_run = true, .run = r, .stages = {}, .needs = {}, .level = last_level};
    add_needs(task, plan.runs[r].stages);
    tasks.push_back(std::move(task));
  }
  return tasks;
}

}  // namespace moextract::sweep
