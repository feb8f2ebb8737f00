// Requests to stop. The flag stays for the life of a process, so each case is a process of its own (a death test).
#include "run/stop.h"

#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "comm/backends.h"
#include "core/error.h"
#include "fixture.h"
#include "run/stage_graph.h"

namespace moextract::run {
namespace {

using Clock = std::chrono::system_clock;

void say_and_exit(bool well) {
  std::fprintf(stderr, "reason: %s\n", stop_reason().c_str());
  std::exit(well ? 0 : 1);
}

TEST(StopDeathTest, SignalsSetTheFlag) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  for (const int signal : {SIGTERM, SIGUSR2, SIGINT}) {
    EXPECT_EXIT(
        {
          install_stop_handlers();
          const bool before = stop_requested();
          std::raise(signal);
          say_and_exit(!before && stop_requested());
        },
        ::testing::ExitedWithCode(0), "reason: signal");
  }
}

TEST(StopDeathTest, ASecondSignalEndsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        install_stop_handlers();
        std::raise(SIGTERM);
        std::raise(SIGTERM);
        std::exit(0);
      },
      ::testing::KilledBySignal(SIGTERM), "");
}

TEST(StopDeathTest, TheEndOfTheJobsTimeCounts) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        stop_at(Clock::now() + std::chrono::hours(1));
        const bool early = stop_requested();
        stop_at(Clock::now() - std::chrono::seconds(1));
        stop_at(Clock::now() + std::chrono::hours(2));  // the earliest counts
        say_and_exit(!early && stop_requested());
      },
      ::testing::ExitedWithCode(0), "end of the job's time");
}

TEST(Stop, ReadsSlurmsEndTime) {
  unsetenv("SLURM_JOB_END_TIME");
  EXPECT_FALSE(slurm_end_time());
  for (const char* wrong : {"", "soon", "-5", "12x", "0"}) {
    setenv("SLURM_JOB_END_TIME", wrong, 1);
    EXPECT_FALSE(slurm_end_time()) << wrong;
  }
  setenv("SLURM_JOB_END_TIME", "1700000000", 1);
  ASSERT_TRUE(slurm_end_time());
  EXPECT_EQ(Clock::to_time_t(*slurm_end_time()), 1700000000);
  unsetenv("SLURM_JOB_END_TIME");
}

/// One of three ranks is asked; all leave before the next stage with the code that means "run me again".
TEST(StopDeathTest, RanksAgreeBeforeTheNextStage) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const fs::path root = fs::temp_directory_path() / ("moextract-stop-" + std::to_string(std::random_device{}()));
  EXPECT_EXIT(
      {
        StageGraph graph(root);
        for (const char* id : {"a", "b"}) {
          graph.add({id, {id, 1, {}, {}}, {}, "", [](Context& context, const fs::path&) {
                       if (context.comm.rank() == 2) request_stop();
                       return nlohmann::json::object();
                     }});
        }
        const auto log = std::make_shared<spdlog::logger>("quiet");
        try {
          comm::run_threads(3, [&](comm::Communicator& comm) {
            Workers workers(1);
            Context context{comm, workers, log};
            graph.execute({"a", "b"}, context, "test");
          });
        } catch (const UserError& error) {
          std::fprintf(stderr, "%s\n", error.what());
          std::exit(graph.state("a") == ArtefactState::done && graph.state("b") == ArtefactState::absent
                        ? static_cast<int>(error.code())
                        : 1);
        }
        std::exit(2);
      },
      ::testing::ExitedWithCode(75), "before stage b");
  fs::remove_all(root);
}

}  // namespace
}  // namespace moextract::run
