// Plans: what runs share, and in which order tasks can be done.
#include "sweep/plan.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "graph_sample.h"

namespace moextract::sweep {
namespace {

using nlohmann::json;

SweepFile file_of(const std::vector<std::string>& keys) {
  SweepFile file;
  file.name = "s";
  for (const std::string& key : keys) file.grid.push_back({key, {}});
  return file;
}

void add(PlanBuilder& builder, int k, int seed) {
  builder.count_combination(false);
  const json values{{"cluster", {{"k", k}, {"seed", seed}}}};
  if (builder.begin_run({{"cluster.k", std::to_string(k)}}, values, values.dump()))
    builder.add_stages(sample_graph("/store", k, seed));
}

Plan sample_plan() {
  PlanBuilder builder(file_of({"cluster.k", "cluster.seed"}));
  for (const int k : {4, 8}) {
    for (const int seed : {1, 2}) add(builder, k, seed);
  }
  return std::move(builder).finish();
}

std::vector<std::string> ids(const Plan& plan, const std::vector<Task>& tasks) {
  std::vector<std::string> ids;
  for (const Task& task : tasks) {
    std::string stages;
    for (const std::size_t stage : task.stages) stages += (stages.empty() ? "" : " ") + plan.stages[stage].id;
    ids.push_back(task.is_run ? "run" : stages);
  }
  return ids;
}

TEST(Plan, StagesOfTheSameContentAreOne) {
  const Plan plan = sample_plan();
  ASSERT_EQ(plan.runs.size(), 4u);
  EXPECT_EQ(plan.runs[1].label(), "cluster.k=4, cluster.seed=2");
  ASSERT_EQ(plan.stages.size(), 2 + 4 * 3u);
  EXPECT_EQ(plan.stages[0].id, "collect");
  EXPECT_EQ(plan.stages[0].runs, (std::vector<std::size_t>{0, 1, 2, 3}));
  EXPECT_EQ(plan.stages[1].runs, (std::vector<std::size_t>{0}));
  EXPECT_EQ(plan.stages[1].needs, (std::vector<std::size_t>{0}));
  EXPECT_EQ(plan.stages[0].folder, plan.store / plan.stages[0].name);
  for (const PlannedRun& run : plan.runs) EXPECT_EQ(run.stages.size(), 5u);
}

TEST(Plan, EqualSettingsAreOneRunAndNamesDoNotDependOnTheRest) {
  PlanBuilder builder(file_of({"cluster.k", "cluster.seed"}));
  add(builder, 8, 2);
  add(builder, 8, 2);
  const Plan plan = std::move(builder).finish();
  EXPECT_EQ(plan.runs.size(), 1u);
  EXPECT_EQ(plan.repeated, 1u);
  EXPECT_EQ(plan.runs[0].id, sample_plan().runs[3].id);
}

TEST(Plan, AKeyWithOneValueIsNoColumn) {
  PlanBuilder builder(file_of({"cluster.k", "cluster.seed"}));
  add(builder, 8, 1);
  add(builder, 8, 2);
  const Plan plan = std::move(builder).finish();
  EXPECT_EQ(plan.varied, (std::vector<std::string>{"cluster.seed"}));
  EXPECT_EQ(plan.runs[1].label(), "cluster.seed=2");
}

TEST(Tasks, SharedStagesComeFirstAndOnce) {
  const Plan plan = sample_plan();
  const std::vector<Task> tasks = unfinished_tasks(plan, std::vector<bool>(plan.stages.size()), std::vector<bool>(4));
  EXPECT_EQ(ids(plan, tasks), (std::vector<std::string>{"collect evaluate/dense", "run", "run", "run", "run"}));
  for (const Task& task : tasks) {
    if (!task.is_run) continue;
    EXPECT_EQ(task.needs, (std::vector<std::size_t>{0}));
    EXPECT_EQ(task.level, 1);
  }
}

TEST(Tasks, WhatIsDoneIsNoTask) {
  const Plan plan = sample_plan();
  std::vector<bool> stages(plan.stages.size());
  stages[0] = true;
  const std::vector<Task> tasks = unfinished_tasks(plan, stages, {true, false, false, false});
  EXPECT_EQ(ids(plan, tasks), (std::vector<std::string>{"evaluate/dense", "run", "run", "run"}));
  EXPECT_EQ(tasks[1].run, 1u);
  EXPECT_EQ(tasks[0].run, 1u) << "the configuration of a run that is not done";
  EXPECT_TRUE(unfinished_tasks(plan, stages, {true, true, true, true}).empty());
  // Only one run is left that wants evaluate/dense: it makes it itself.
  EXPECT_EQ(ids(plan, unfinished_tasks(plan, stages, {true, true, true, false})), (std::vector<std::string>{"run"}));
}

TEST(Tasks, LevelsFollowNeeds) {
  // Two runs of each k: collect is shared by all four, cluster, assemble and the evaluation by two each.
  PlanBuilder builder(file_of({"cluster.k", "tune.rate"}));
  for (const int k : {4, 8}) {
    for (const int rate : {1, 2}) {
      const json values{{"cluster", {{"k", k}}}, {"tune", {{"rate", rate}}}};
      ASSERT_TRUE(builder.begin_run({}, values, values.dump()));
      run::StageGraph graph = sample_graph("/store", k, 1);
      graph.add(stage("finetune", {{"rate", rate}}, {{"model", graph.node("assemble/experts").spec.key()}},
                      {"assemble/experts"}));
      builder.add_stages(graph);
    }
  }
  const Plan plan = std::move(builder).finish();
  const std::vector<Task> tasks = unfinished_tasks(plan, std::vector<bool>(plan.stages.size()), std::vector<bool>(4));
  const std::string pair = "cluster assemble/experts evaluate/experts";
  EXPECT_EQ(ids(plan, tasks),
            (std::vector<std::string>{"collect evaluate/dense", pair, pair, "run", "run", "run", "run"}));
  EXPECT_EQ(tasks[0].level, 0);
  EXPECT_EQ(tasks[1].level, 1);
  EXPECT_EQ(tasks[1].needs, (std::vector<std::size_t>{0}));
  EXPECT_EQ(tasks[3].level, 2);
  EXPECT_EQ(tasks[3].needs, (std::vector<std::size_t>{0, 1}));
  EXPECT_EQ(tasks[5].needs, (std::vector<std::size_t>{0, 2}));
  // Once the collection is there, the second level still waits for nothing but what it reads.
  std::vector<bool> stages(plan.stages.size());
  stages[0] = true;
  EXPECT_TRUE(unfinished_tasks(plan, stages, std::vector<bool>(4))[1].needs.empty());
}

}  // namespace
}  // namespace moextract::sweep
