// Processes side by side: order, failures, the exit code that means "again", and being asked to stop.
#include "sweep/job_pool.h"

#include <chrono>
#include <thread>

#include "core/file.h"
#include "sample.h"

namespace moextract::sweep {
namespace {

class JobPool : public SweepTest {
 protected:
  Job shell(const std::string& script, std::vector<std::size_t> needs = {}) const {
    return {{"/bin/sh", "-c", "cd '" + root_.string() + "'; " + script}, root_ / "log", std::move(needs)};
  }
  std::vector<JobResult> run(
      const std::vector<Job>& jobs, int side_by_side, std::function<bool()> stop = [] { return false; }) {
    return run_jobs(jobs, side_by_side, 3,
                    {[this](std::size_t job) { started_.push_back(job); },
                     [this](std::size_t job, const JobResult&) { ended_.push_back(job); }, std::move(stop)});
  }
  std::string said() const { return read_text_file(root_ / "log"); }
  std::vector<std::size_t> started_, ended_;
};

TEST_F(JobPool, OutputGoesToTheLogAndCodesComeBack) {
  const std::vector<JobResult> results =
      run({shell("echo one; echo two >&2"), shell("exit 6"), shell("kill -9 $$")}, 1);
  EXPECT_EQ(said(), "one\ntwo\n");
  EXPECT_EQ(results[0].end, JobEnd::well);
  EXPECT_EQ(results[1].end, JobEnd::failed);
  EXPECT_EQ(results[1].code, 6);
  EXPECT_EQ(results[2].end, JobEnd::failed);
  EXPECT_EQ(results[2].code, 128 + 9);
  EXPECT_EQ(started_, (std::vector<std::size_t>{0, 1, 2}));
  EXPECT_EQ(ended_, (std::vector<std::size_t>{0, 1, 2}));
}

TEST_F(JobPool, NoMoreThanAllowedAtATime) {
  std::vector<Job> jobs;
  for (int i = 0; i < 6; ++i) jobs.push_back(shell("echo +; sleep 0.1; echo -"));
  run(jobs, 2);
  int now = 0, most = 0;
  for (const char c : said()) {
    now += c == '+' ? 1 : (c == '-' ? -1 : 0);
    most = std::max(most, now);
  }
  EXPECT_EQ(most, 2);
  EXPECT_EQ(now, 0);
}

TEST_F(JobPool, ThoseThatNeedAFailedOneAreNotStarted) {
  const std::vector<JobResult> results =
      run({shell("exit 4"), shell("echo no", {0}), shell("echo no", {1}), shell("echo yes")}, 2);
  EXPECT_EQ(results[1].end, JobEnd::not_started);
  EXPECT_EQ(results[1].blocker, 0u);
  EXPECT_EQ(results[2].end, JobEnd::not_started);
  EXPECT_EQ(results[2].blocker, 0u) << "the one that failed, not the one that was not started";
  EXPECT_EQ(results[3].end, JobEnd::well);
  EXPECT_EQ(said(), "yes\n");
}

TEST_F(JobPool, NeedsAreWaitedFor) {
  run({shell("sleep 0.2; echo first"), shell("echo second", {0}), shell("echo aside")}, 2);
  EXPECT_EQ(said(), "aside\nfirst\nsecond\n");
}

TEST_F(JobPool, ExitCode75IsStartedAgainAFewTimes) {
  const std::vector<JobResult> results =
      run({shell("echo a >> n; [ $(wc -l < n) -ge 3 ] || exit 75"), shell("echo b; exit 75")}, 1);
  EXPECT_EQ(results[0].end, JobEnd::well);
  EXPECT_EQ(results[1].end, JobEnd::failed);
  EXPECT_EQ(results[1].code, 75);
  EXPECT_EQ(said(), "b\nb\nb\nb\n") << "once, and three tries";
  EXPECT_EQ(started_.size(), 2u);
}

TEST_F(JobPool, AskedToStopTheySave) {
  const std::vector<JobResult> results =
      run({shell("trap 'echo saved; exit 75' USR2; touch begun; while :; do sleep 0.05; done"), shell("echo never")}, 1,
          [this] { return fs::exists(root_ / "begun"); });
  EXPECT_EQ(results[0].end, JobEnd::interrupted);
  EXPECT_EQ(results[1].end, JobEnd::interrupted);
  EXPECT_EQ(said(), "saved\n");
}

TEST_F(JobPool, AProgramThatIsNotThereFails) {
  const std::vector<JobResult> results = run({{{"/nowhere/program"}, root_ / "log", {}}}, 1);
  EXPECT_EQ(results[0].end, JobEnd::failed);
  EXPECT_EQ(results[0].code, 127);
  EXPECT_TRUE(contains(message_of(
                           [&] {
                             run({{{"/bin/true"}, root_ / "no/log", {}}}, 1);
                           },
                           ExitCode::storage),
                       "no/log"));
}

}  // namespace
}  // namespace moextract::sweep
