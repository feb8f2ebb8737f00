// What a sweep will do: its runs, the stages that they share, and the tasks that make them.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "run/stage_graph.h"
#include "sweep/sweep_file.h"

namespace moextract::sweep {

/// One artefact, whichever runs want it.
struct PlannedStage {
  std::string name;                ///< of its folder: "collect-0123456789abcdef"
  std::string id;                  ///< in its run's graph: "collect", "assemble/experts"
  std::filesystem::path folder;    ///< of the artefact
  std::vector<std::size_t> needs;  ///< indices of stages
  std::vector<std::size_t> runs;   ///< indices of the runs that want it, ascending
  double bytes = 0;                ///< what it will write, where that is known
  std::string task;  ///< that makes it for all of its runs: "shared-0123456789"; empty where it has one run
};

struct PlannedRun {
  std::string id;                   ///< "run-0123456789": the same for the same settings, whatever else the sweep holds
  Settings settings;                ///< those of `set`, then the varied ones
  Settings varied;                  ///< for people: the value of each key of Plan::varied, in that order
  std::vector<std::size_t> stages;  ///< indices, in an order in which they can be made
  std::string label() const;        ///< "cluster.k=8, cluster.seed=2"
};

/// What one process does: all stages that exactly the same runs share, or one run.
struct Task {
  std::string id;  ///< "shared-0123456789", or the run's id
  bool is_run = false;
  std::size_t run = 0;              ///< whose configuration it uses
  std::vector<std::size_t> stages;  ///< shared ones; empty for a run, which makes all that is missing
  std::vector<std::size_t> needs;   ///< indices of tasks, all smaller than its own
  int level = 0;  ///< 0: needs nothing; otherwise one more than the highest of `needs`; runs: the last
};

struct Plan {
  SweepFile file;
  std::vector<std::string> varied;  ///< keys that have more than one value, in the order of the file
  std::size_t combinations = 0, excluded = 0, repeated = 0;
  std::vector<PlannedRun> runs;
  std::vector<PlannedStage> stages;
  std::filesystem::path store;
};

/// Collects runs into a plan.
class PlanBuilder {
 public:
  explicit PlanBuilder(SweepFile file);
  /// `values`: the run's whole configuration; `identity`: a text that differs where runs do. False: an earlier run has
  /// the same identity, and this one is left out.
  bool begin_run(Settings settings, const nlohmann::json& values, const std::string& identity);
  /// The stages of the run begun last; `bytes`: what they will write, by node, where that is known.
  void add_stages(const run::StageGraph& graph, const std::map<std::string, double>& bytes = {});
  void count_combination(bool excluded);
  Plan finish() &&;

 private:
  Plan plan_;
  std::map<std::string, std::size_t> run_ids_, stage_names_;
};

/// What is left to do, shared stages first. Stages are shared in one task if exactly the same runs want them: what they
/// need is wanted by at least these runs, so tasks never need each other. `stage_done`: its artefact is there;
/// `run_done`: nothing is left to do for it. A run that is alone left with a stage makes it itself.
std::vector<Task> unfinished_tasks(const Plan& plan, const std::vector<bool>& stage_done,
                                   const std::vector<bool>& run_done);

}  // namespace moextract::sweep
