// Sweeps over real configurations: what is planned is what `run` then makes.
#include "stages/sweep_plan.h"

#include <gtest/gtest.h>

#include <ctime>
#include <set>

#include "core/error.h"
#include "sweep/sweep_folder.h"
#include "tests/stages/small_run.h"

namespace moextract::stages::test {
namespace {

namespace fs = std::filesystem;

class SweepPlan : public testing::Test {
 protected:
  sweep::Plan plan(const std::string& text) const {
    run_.write("sweep.yaml",
               "base: config.yaml\nset:\n  run.store: " + (run_.folder() / "store").string() + "\n" + text);
    return plan_sweep(run_.file("sweep.yaml"));
  }
  SmallRun run_;
};

TEST_F(SweepPlan, ARunsConfigurationHasTheStagesThatWerePlanned) {
  const sweep::Plan plan = this->plan("grid:\n  cluster.k: [2, 3]\n  finetune.learning_rate: [1e-3, 2e-3]\n");
  ASSERT_EQ(plan.runs.size(), 4u);
  std::set<std::string> all;
  for (const sweep::PlannedRun& run : plan.runs) {
    run_.write("frozen.yaml", run_config_text(plan, run, run_.folder() / "runs" / run.id, 2));
    RunConfig config;
    read_config(run_.file("frozen.yaml"), {}, config);
    EXPECT_EQ(config.run.threads, 2);
    EXPECT_EQ(config.run.folder, run_.folder() / "runs" / run.id);
    const Pipeline pipeline(config);
    ASSERT_EQ(pipeline.graph().nodes().size(), run.stages.size());
    for (std::size_t s = 0; s < run.stages.size(); ++s) {
      const sweep::PlannedStage& stage = plan.stages[run.stages[s]];
      EXPECT_EQ(pipeline.graph().folder(stage.id), stage.folder);
      all.insert(stage.name);
    }
  }
  EXPECT_EQ(all.size(), plan.stages.size());
  // One collection and one dense evaluation for all, two of cluster, assemble and their evaluations, four fine-tunings.
  const auto count = [&](const std::string& id) {
    return std::count_if(plan.stages.begin(), plan.stages.end(), [&](const auto& stage) { return stage.id == id; });
  };
  EXPECT_EQ(count("collect"), 1);
  EXPECT_EQ(count("evaluate/dense"), 1);
  EXPECT_EQ(count("cluster"), 2);
  EXPECT_EQ(count("assemble/experts"), 2);
  EXPECT_EQ(count("finetune/experts"), 4);
  EXPECT_GT(plan.stages.front().bytes, 0) << "collect writes shards";
}

TEST_F(SweepPlan, ConstraintsSeeDefaultsAndTheBase) {
  const sweep::Plan plan =
      this->plan("grid:\n  cluster.k: [2, 3, 4]\nconstraints:\n  - cluster.k < collect.tokens_per_image / 2\n");
  EXPECT_EQ(plan.combinations, 3u);
  EXPECT_EQ(plan.excluded, 1u);
  EXPECT_EQ(plan.runs.size(), 2u);
  EXPECT_THROW(this->plan("grid:\n  cluster.k: [2, 3]\nconstraints:\n  - cluster.k > 5\n"), UserError);
}

TEST_F(SweepPlan, AMistakeOfOneRunIsNamedWithItsSettings) {
  try {
    plan("grid:\n  assemble.storage: [shared, own_output]\n");
    ADD_FAILURE() << "nothing was thrown";
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::config);
    EXPECT_NE(std::string(error.what()).find("the run with assemble.storage=own_output: assemble.storage: "),
              std::string::npos)
        << error.what();
  }
}

TEST_F(SweepPlan, AThousandRunsTakeLessThanTwoSeconds) {
  std::string seeds;
  for (int i = 0; i < 250; ++i) seeds += (i > 0 ? ", " : "") + std::to_string(i);
  const std::clock_t start = std::clock();  // processor time: other tests run meanwhile
  const sweep::Plan plan = this->plan("folder: " + run_.file("sweep").string() +
                                      "\ngrid:\n  cluster.k: [2, 3, 4, 5]\n  cluster.seed: [" + seeds + "]\n");
  const sweep::SweepStatus status = sweep::SweepFolder(plan.file.folder).status(plan);
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  EXPECT_EQ(plan.runs.size(), 1000u);
  EXPECT_EQ(status.count(sweep::RunState::to_do), 1000u);
  RecordProperty("seconds", std::to_string(seconds));
  std::printf("1,000 runs planned in %.2f s of processor time\n", seconds);
  EXPECT_LT(seconds, 2);
}

}  // namespace
}  // namespace moextract::stages::test
