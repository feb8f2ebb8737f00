// The folder of a sweep: its owner, and what its files say of the runs.
#include "sweep/sweep_folder.h"

#include "core/file.h"
#include "graph_sample.h"
#include "sample.h"
#include "sweep/sweep_cost.h"

namespace moextract::sweep {
namespace {

class SweepFolderTest : public SweepTest {
 protected:
  SweepFolderTest() : folder_(root_ / "sweep") {
    SweepFile file;
    file.file = write("s.yaml", "x");
    file.name = "s";
    file.grid.push_back({"k", {}});
    PlanBuilder builder(std::move(file));
    for (const int k : {4, 8, 16}) {
      const nlohmann::json values{{"k", k}};
      if (builder.begin_run({}, values, values.dump())) builder.add_stages(sample_graph(root_ / "store", k, 1));
    }
    plan_ = std::move(builder).finish();
    folder_.claim(plan_);
  }
  void finish_stage(std::size_t s) { finish(plan_.stages[s].folder); }
  static void finish(const fs::path& folder) {
    fs::create_directories(folder);
    write_file_atomically(folder / "manifest.json",
                          R"({"files": {}, "key": "", "seconds": 10, "ranks": 2, "threads_per_rank": 3})");
    write_file_atomically(folder / "DONE", "");
  }
  void finish_run(std::size_t r) {
    for (const std::size_t s : plan_.runs[r].stages) finish_stage(s);
    fs::create_directories(folder_.run(plan_.runs[r].id));
    write_file_atomically(folder_.run(plan_.runs[r].id) / "results.json", "{}");
  }
  RunStatus status(std::size_t r) { return folder_.status(plan_).runs[r]; }
  void log(const std::string& task, const std::string& text) { write_file_atomically(folder_.log(task), text); }

  SweepFolder folder_;
  Plan plan_;
};

TEST_F(SweepFolderTest, ARunIsDoneWithItsStagesAndItsResults) {
  EXPECT_EQ(status(0).state, RunState::to_do);
  finish_run(0);
  EXPECT_EQ(status(0).state, RunState::done);
  EXPECT_EQ(status(1).state, RunState::to_do) << "what it shares is there, its own stages are not";
  fs::remove(plan_.stages[plan_.runs[0].stages[1]].folder / "DONE");
  EXPECT_EQ(status(0).state, RunState::to_do);
  finish_stage(plan_.runs[0].stages[1]);
  fs::remove(folder_.run(plan_.runs[0].id) / "results.json");
  EXPECT_EQ(status(0).state, RunState::to_do);
}

TEST_F(SweepFolderTest, FailuresHaveTheirCause) {
  const std::string id = plan_.runs[1].id;
  folder_.write_exit_code(id, 6);
  log(id, "moextract: error: an older one\nsomething\nmoextract: error: NaN in layer 3\nmore\n");
  EXPECT_EQ(status(1).state, RunState::failed);
  EXPECT_EQ(status(1).detail, "NaN in layer 3");
  log(id, "nothing of ours\n");
  EXPECT_TRUE(contains(status(1).detail, "exit code 6; see "));
  folder_.write_exit_code(id, 128 + 9);
  EXPECT_TRUE(contains(status(1).detail, "ended by signal 9"));
  folder_.write_exit_code(id, 75);
  EXPECT_EQ(status(1).state, RunState::interrupted);
  folder_.forget_exit_code(id);
  EXPECT_EQ(status(1).state, RunState::to_do);
}

TEST_F(SweepFolderTest, ASharedStageThatFailedIsWhyItsRunsDid) {
  folder_.write_exit_code(plan_.stages[0].task, 4);
  log(plan_.stages[0].task, "moextract: error: no such image\n");
  const SweepStatus status = folder_.status(plan_);
  EXPECT_EQ(status.count(RunState::failed), 3u);
  EXPECT_EQ(status.runs[2].detail, "collect failed: no such image");
  for (std::size_t s = 0; s < plan_.stages.size(); ++s) {
    if (plan_.stages[s].runs.size() > 1) finish_stage(s);
  }
  EXPECT_EQ(folder_.status(plan_).count(RunState::failed), 0u) << "what is shared is there now";
}

TEST_F(SweepFolderTest, AFolderBelongsToOneSweep) {
  folder_.check_owner(plan_.file);
  SweepFile other = plan_.file;
  other.file = write("other.yaml", "y");
  const std::string message = message_of([&] { folder_.check_owner(other); }, ExitCode::conflict);
  EXPECT_TRUE(contains(message, "holds the sweep of " + (root_ / "s.yaml").string())) << message;
  write("sweep/sweep.json", "{");
  EXPECT_TRUE(contains(message_of([&] { folder_.check_owner(plan_.file); }, ExitCode::conflict), "is damaged"));
  fs::create_directories(root_ / "mine");
  write("mine/thesis.tex", "");
  EXPECT_TRUE(contains(message_of([&] { SweepFolder(root_ / "mine").check_owner(plan_.file); }, ExitCode::conflict),
                       "no sweep's folder"));
  SweepFolder(root_ / "absent").check_owner(plan_.file);
}

TEST_F(SweepFolderTest, CostIsWhatStagesTookEarlier) {
  finish_run(0);
  const std::vector<StageCost> costs = stage_costs(plan_, folder_.status(plan_));
  ASSERT_EQ(costs.size(), 4u);
  EXPECT_EQ(costs[0].kind, "collect");
  EXPECT_EQ(costs[0].wanted, 3u);
  EXPECT_EQ(costs[0].different, 1u);
  EXPECT_EQ(costs[0].to_make(), 0u);
  EXPECT_EQ(costs[1].kind, "cluster");
  EXPECT_EQ(costs[1].to_make(), 2u);
  EXPECT_EQ(costs[1].seconds, 60) << "10 s on 2 ranks of 3 threads";
  EXPECT_EQ(costs[3].kind, "evaluate");
  EXPECT_EQ(costs[3].different, 4u);
  EXPECT_EQ(costs[3].to_make(), 2u);
}

TEST_F(SweepFolderTest, CostIsTakenFromOtherArtefactsOfTheStore) {
  finish(root_ / "store/cluster-0123456789abcdef");
  const std::vector<StageCost> costs = stage_costs(plan_, folder_.status(plan_));
  EXPECT_EQ(costs[1].seconds, 60);
  EXPECT_EQ(costs[1].done, 0u);
  EXPECT_FALSE(costs[0].seconds);
}

}  // namespace
}  // namespace moextract::sweep
