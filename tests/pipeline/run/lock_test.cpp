// Locks between processes: one holds, the other waits or takes over.
#include "run/artefact_lock.h"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>

#include "core/error.h"
#include "fixture.h"

namespace moextract::run {
namespace {

using Clock = std::chrono::steady_clock;
constexpr LockTiming kQuick{.beat = 0.1, .stale = 1.0, .look = 0.02};

/// A process that holds a lock.
class Holder {
 public:
  Holder(const fs::path& file, const char* seconds) {
    int ends[2];
    if (::pipe(ends) != 0) throw std::runtime_error("pipe");
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(ends[1], STDOUT_FILENO);
      ::close(ends[0]);
      ::execl(RUN_LOCK_PROBE, RUN_LOCK_PROBE, file.c_str(), seconds, nullptr);
      ::_exit(127);
    }
    ::close(ends[1]);
    char text[8] = {};
    held_ = ::read(ends[0], text, 5) == 5;
    ::close(ends[0]);
  }
  ~Holder() {
    if (pid_ > 0) kill(SIGKILL), wait();
  }
  bool held() const { return held_; }
  pid_t pid() const { return pid_; }
  void kill(int signal) const { ::kill(pid_, signal); }
  int wait() {
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  pid_t pid_ = -1;
  bool held_ = false;
};

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

class LockTest : public RunTest {
 protected:
  fs::path file_;
  void SetUp() override {
    RunTest::SetUp();
    file_ = root_ / "collect-0123456789abcdef.lock";
  }
};

TEST_F(LockTest, NamesItsHolderAndGoesWithIt) {
  const auto logger = log();
  {
    const ArtefactLock lock(
        file_, *logger, [] { return true; }, kQuick);
    const auto holder = ArtefactLock::holder(file_);
    ASSERT_TRUE(holder);
    EXPECT_EQ(holder->pid, ::getpid());
    EXPECT_FALSE(ArtefactLock::is_gone(*holder));
    EXPECT_TRUE(lock.held());
  }
  EXPECT_FALSE(fs::exists(file_));
  EXPECT_FALSE(ArtefactLock::holder(file_));
}

TEST_F(LockTest, WaitsForALivingProcess) {
  Holder other(file_, "0.8");
  ASSERT_TRUE(other.held());
  const auto logger = log();
  const auto start = Clock::now();
  const ArtefactLock lock(
      file_, *logger, [] { return true; }, kQuick);
  EXPECT_GT(seconds_since(start), 0.3);
  EXPECT_EQ(other.wait(), 0);
  EXPECT_TRUE(contains(said_.str(), "process " + std::to_string(ArtefactLock::holder(file_)->pid)) ||
              contains(said_.str(), "makes this artefact; waiting for it"))
      << said_.str();
  EXPECT_FALSE(contains(said_.str(), "taking over")) << said_.str();
}

TEST_F(LockTest, TakesOverFromAKilledProcessAtOnce) {
  Holder other(file_, "100");
  ASSERT_TRUE(other.held());
  other.kill(SIGKILL);
  other.wait();
  ASSERT_TRUE(fs::exists(file_));
  const auto logger = log();
  const auto start = Clock::now();
  const ArtefactLock lock(file_, *logger, [] { return true; }, {.beat = 10, .stale = 60, .look = 0.02});
  EXPECT_LT(seconds_since(start), 5);
  EXPECT_TRUE(lock.held());
  EXPECT_TRUE(contains(said_.str(), "is gone; taking over")) << said_.str();
}

TEST_F(LockTest, TakesOverFromAStoppedProcessWhenItsTimeStandsStillWhichLosesTheLock) {
  Holder other(file_, "4");
  ASSERT_TRUE(other.held());
  other.kill(SIGSTOP);
  const auto logger = log();
  const auto start = Clock::now();
  {
    const ArtefactLock lock(
        file_, *logger, [] { return true; }, kQuick);
    EXPECT_GT(seconds_since(start), 0.9);
    other.kill(SIGCONT);
    EXPECT_EQ(other.wait(), 1) << "the stopped one finds that it has lost the lock";
    EXPECT_TRUE(lock.held()) << "and leaves the new holder's file alone";
  }
  EXPECT_TRUE(contains(said_.str(), "silent for")) << said_.str();
}

TEST_F(LockTest, AnotherHostsLockCountsUntilItStandsStill) {
  write(file_, R"({"host":"another-host","job":"99","token":"t","pid":1,"started":1,"pid_space":1})");
  EXPECT_FALSE(ArtefactLock::is_gone(*ArtefactLock::holder(file_)));
  const auto logger = log();
  const auto start = Clock::now();
  const ArtefactLock lock(
      file_, *logger, [] { return true; }, kQuick);
  EXPECT_GT(seconds_since(start), 0.9);
  EXPECT_TRUE(contains(said_.str(), "process 1 on another-host (job 99)")) << said_.str();
}

TEST_F(LockTest, AProcessNumberUsedAgainIsNoLife) {
  LockHolder me = ArtefactLock::this_process();
  EXPECT_FALSE(ArtefactLock::is_gone(me));
  me.started -= 1;
  EXPECT_TRUE(ArtefactLock::is_gone(me));
}

TEST_F(LockTest, AnEmptyLockFileIsTakenOverWhenItStandsStill) {
  write(file_, "");
  const auto logger = log();
  const ArtefactLock lock(
      file_, *logger, [] { return true; }, kQuick);
  EXPECT_TRUE(lock.held());
}

TEST_F(LockTest, StopsWaitingWhenAsked) {
  Holder other(file_, "100");
  ASSERT_TRUE(other.held());
  const auto logger = log();
  try {
    const ArtefactLock lock(
        file_, *logger, [] { return false; }, kQuick);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::resume);
  }
  EXPECT_TRUE(fs::exists(file_));
}

TEST_F(LockTest, OfManyWhoFindADeadHolderOneHoldsAtATime) {
  for (int round = 0; round < 5; ++round) {
    LockHolder dead = ArtefactLock::this_process();
    write(file_, fmt::format(R"({{"host":"{}","job":"","token":"t","pid":{},"started":{},"pid_space":{}}})", dead.host,
                             dead.pid, dead.started - 1, dead.pid_space));
    std::atomic<int> inside{0}, most{0}, done{0};
    std::vector<std::thread> threads;
    const auto logger = std::make_shared<spdlog::logger>("quiet");
    for (int t = 0; t < 8; ++t) {
      threads.emplace_back([&] {
        const ArtefactLock lock(file_, *logger, [] { return true; }, {.beat = 0.1, .stale = 20, .look = 0.001});
        const int now = ++inside;
        int before = most.load();
        while (now > before && !most.compare_exchange_weak(before, now)) {
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        --inside;
        ++done;
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(most, 1);
    EXPECT_EQ(done, 8);
  }
}

}  // namespace
}  // namespace moextract::run
