// main() of multi-rank tests: gathers what every rank found out to rank 0, which alone prints.
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>

#include "comm/backends.h"
#include "tests/pipeline/comm/mpi_world.h"

namespace moextract::comm {
namespace {

Communicator* the_world = nullptr;

/// What the tests reported on this rank since the last call of clear().
class Findings {
 public:
  void add(const testing::TestPartResult& result) {
    if (result.passed()) return;
    const std::lock_guard lock(mutex_);
    const char* file = result.file_name() == nullptr ? "(no file)" : result.file_name();
    text_ += fmt::format("{}:{}: {}\n{}\n", file, result.line_number(), result.skipped() ? "Skipped" : "Failure",
                         result.message());
  }
  std::string text() const {
    const std::lock_guard lock(mutex_);
    return text_;
  }
  void clear() {
    const std::lock_guard lock(mutex_);
    text_.clear();
  }

 private:
  mutable std::mutex mutex_;
  std::string text_;
};

/// Ends the job when a test takes too long: a rank that left a test early leaves the others in a collective for ever.
class Watchdog {
 public:
  Watchdog(Communicator& ranks, Findings& findings)
      : ranks_(ranks), findings_(findings), thread_([this](const std::stop_token& stop) { watch(stop); }) {}

  /// An empty name: nothing is under way.
  void set_test(const std::string& name) {
    const std::lock_guard lock(mutex_);
    test_ = name;
    started_ = std::chrono::steady_clock::now();
  }

 private:
  void watch(const std::stop_token& stop) {
    const char* given = std::getenv("MOEXTRACT_TEST_DEADLINE");
    const auto deadline = std::chrono::seconds(given != nullptr ? std::atoi(given) : 60);
    std::unique_lock lock(mutex_);
    while (!stop.stop_requested()) {
      changed_.wait_for(lock, stop, std::chrono::milliseconds(200), [] { return false; });
      if (test_.empty() || std::chrono::steady_clock::now() - started_ < deadline) continue;
      fmt::print(stderr, "[rank {}] {} has not ended after {} s; found so far:\n{}", ranks_.rank(), test_,
                 deadline.count(), findings_.text());
      // The first rank to abort ends them all: give the others the time to print.
      std::this_thread::sleep_for(std::chrono::seconds(1));
      ranks_.abort(ExitCode::distributed);
    }
  }

  Communicator& ranks_;
  Findings& findings_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::string test_;
  std::chrono::steady_clock::time_point started_;
  std::jthread thread_;  // last: it uses all the others
};

class Printer : public testing::EmptyTestEventListener {
 public:
  explicit Printer(Communicator& ranks) : ranks_(ranks), watchdog_(ranks, findings_) {}

  void OnTestStart(const testing::TestInfo& test) override { watchdog_.set_test(name_of(test)); }
  void OnTestPartResult(const testing::TestPartResult& result) override { findings_.add(result); }
  void OnTestEnd(const testing::TestInfo& test) override {
    const bool failed = gather(test.result()->Failed());
    watchdog_.set_test("");
    if (failed) failed_.push_back(name_of(test));
    if (!ranks_.is_root()) return;
    fmt::print("[{}] {} ({} ms)\n",
               failed                     ? "  FAILED  "
               : test.result()->Skipped() ? "  SKIPPED "
                                          : "       OK ",
               name_of(test), test.result()->elapsed_time());
    std::fflush(stdout);
  }
  /// Also what was reported outside of a test, e.g. in SetUpTestSuite.
  void OnTestProgramEnd(const testing::UnitTest& program) override {
    gather(false);
    if (!ranks_.is_root()) return;
    fmt::print("{} tests on {} ranks, {} failed\n", program.test_to_run_count(), ranks_.size(), failed_.size());
    for (const std::string& name : failed_) fmt::print("[  FAILED  ] {}\n", name);
    std::fflush(stdout);
  }

 private:
  static std::string name_of(const testing::TestInfo& test) {
    return fmt::format("{}.{}", test.test_suite_name(), test.name());
  }

  /// Collective. Prints the findings of all ranks on rank 0; whether any rank failed.
  bool gather(bool failed) {
    const std::vector<std::string> texts = ranks_.all_gather_text(findings_.text());
    findings_.clear();  // not before they have arrived: the watchdog prints them if another rank never comes
    if (ranks_.is_root()) {
      for (std::size_t rank = 0; rank < texts.size(); ++rank) {
        if (!texts[rank].empty()) fmt::print("[rank {}] {}", rank, texts[rank]);
      }
    }
    return ranks_.all_reduce_value(std::int32_t{failed}, Reduction::max) != 0;
  }

  Communicator& ranks_;
  Findings findings_;
  Watchdog watchdog_;
  std::vector<std::string> failed_;
};

int run_tests(MpiSession& session, int& argc, char** argv) {
  const std::unique_ptr<Communicator> ranks = session.world();
  const std::unique_ptr<Communicator> own = session.world();
  the_world = ranks.get();
  testing::InitGoogleTest(&argc, argv);
  // All ranks must walk the same tests in the same order, whatever happens on one of them.
  GTEST_FLAG_SET(fail_fast, false);
  std::int32_t seed = GTEST_FLAG_GET(random_seed);
  if (seed == 0)
    seed = static_cast<std::int32_t>(std::chrono::system_clock::now().time_since_epoch().count() % 99999) + 1;
  GTEST_FLAG_SET(random_seed, own->all_reduce_value(seed, Reduction::min));
  if (!own->is_root()) GTEST_FLAG_SET(output, "");

  testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
  delete listeners.Release(listeners.default_result_printer());
  auto* printer = new Printer(*own);  // owned by the list of listeners
  listeners.Append(printer);
  const int here = RUN_ALL_TESTS();
  int result = own->all_reduce_value(std::int32_t{here}, Reduction::max);
  if (testing::UnitTest::GetInstance()->test_to_run_count() == 0 && !GTEST_FLAG_GET(list_tests)) {
    if (own->is_root()) fmt::print(stderr, "no test matches the filter\n");
    result = 1;
  }
  delete listeners.Release(printer);  // before the communicator that it prints over
  return result != 0 ? 1 : 0;
}

}  // namespace

Communicator& world() {
  MOEX_ASSERT(the_world != nullptr, "world() is for tests run by mpi_main.cpp");
  return *the_world;
}

}  // namespace moextract::comm

int main(int argc, char** argv) {
  try {
    moextract::comm::MpiSession session(argc, argv);
    return moextract::comm::run_tests(session, argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
