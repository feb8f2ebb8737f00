// The team of threads: every unit once, exceptions handed on, reuse.
#include "core/workers.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "core/error.h"

namespace moextract {
namespace {

class WorkersOf : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Threads, WorkersOf, testing::Values(1, 2, 5));

TEST_P(WorkersOf, DoEveryUnitOnce) {
  Workers workers(GetParam());
  EXPECT_EQ(workers.size(), GetParam());
  for (const std::int64_t count : {0, 1, 3, 1000}) {
    std::vector<std::atomic<int>> done(static_cast<std::size_t>(count));
    std::atomic<bool> in_range = true;
    workers.for_each(count, [&](std::int64_t unit, int worker) {
      if (worker < 0 || worker >= GetParam()) in_range = false;
      ++done[static_cast<std::size_t>(unit)];
    });
    for (const auto& d : done) EXPECT_EQ(d.load(), 1);
    EXPECT_TRUE(in_range);
  }
}

// Threads look for the next round for a while and then sleep: both must find it, and what was written before it.
TEST_P(WorkersOf, FindEveryRoundSoonOrLate) {
  Workers workers(GetParam());
  std::int64_t sum = 0, expected = 0;
  for (std::int64_t round = 0; round < 400; ++round) {
    if (round % 50 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    std::vector<std::int64_t> made(4, -1);
    workers.for_each(4, [&](std::int64_t unit, int) {
      if (round % 50 == 1 && unit == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      made[static_cast<std::size_t>(unit)] = round * unit;
    });
    for (const std::int64_t value : made) sum += value;
    expected += 6 * round;
  }
  EXPECT_EQ(sum, expected);
}

TEST_P(WorkersOf, AWorkerIsOneThreadAtATime) {
  Workers workers(GetParam());
  std::vector<int> plain(static_cast<std::size_t>(GetParam()), 0);  // a race here is one the thread sanitizer sees
  for (int round = 0; round < 200; ++round) {
    workers.for_each(7, [&](std::int64_t, int worker) { ++plain[static_cast<std::size_t>(worker)]; });
  }
  int sum = 0;
  for (const int p : plain) sum += p;
  EXPECT_EQ(sum, 1400);
}

TEST_P(WorkersOf, ThrowTheSmallestFailingUnitsException) {
  Workers workers(GetParam());
  for (int round = 0; round < 50; ++round) {
    std::vector<std::atomic<int>> done(40);
    std::string what;
    try {
      workers.for_each(40, [&](std::int64_t unit, int) {
        if (unit == 11) std::this_thread::sleep_for(std::chrono::microseconds(200));  // 12 may well fail first
        ++done[static_cast<std::size_t>(unit)];
        if (unit == 11 || unit == 12) throw std::runtime_error(std::to_string(unit));
      });
    } catch (const std::runtime_error& error) {
      what = error.what();
    }
    EXPECT_EQ(what, "11");
    for (std::size_t unit = 0; unit < 12; ++unit) EXPECT_EQ(done[unit].load(), 1);  // begun before 11, so finished
  }
  // The team is none the worse for it.
  std::atomic<int> done = 0;
  workers.for_each(10, [&](std::int64_t, int) { ++done; });
  EXPECT_EQ(done.load(), 10);
}

TEST(Workers, StopHandingOutUnitsAfterAFailure) {
  Workers alone(1);
  int done = 0;
  EXPECT_THROW(alone.for_each(100,
                              [&](std::int64_t unit, int) {
                                ++done;
                                if (unit == 4) fail(ExitCode::input, "unit {}", unit);
                              }),
               UserError);
  EXPECT_EQ(done, 5);
}

TEST(Workers, StartEachThreadOnceWithTheCallback) {
  std::mutex mutex;
  std::multiset<std::thread::id> started;
  {
    Workers workers(3, [&] {
      const std::lock_guard lock(mutex);
      started.insert(std::this_thread::get_id());
    });
    workers.for_each(100, [](std::int64_t, int) {});
  }
  EXPECT_EQ(started.size(), 3u);
  EXPECT_EQ(started.count(std::this_thread::get_id()), 1u);
  EXPECT_EQ(std::set(started.begin(), started.end()).size(), 3u);
}

TEST(Workers, UseTheirThreadsAtTheSameTime) {
  Workers workers(2);
  std::atomic<int> here = 0;
  std::atomic<bool> met = true;
  // Each of the two units waits for the other: with one thread at work this would never end, hence the deadline.
  workers.for_each(2, [&](std::int64_t, int) {
    ++here;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (here < 2 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    if (here < 2) met = false;
  });
  EXPECT_TRUE(met);
}

TEST(Workers, NeedAThread) {
  EXPECT_THROW(Workers(0), BugError);
  EXPECT_GE(usable_cores(), 1);
}

}  // namespace
}  // namespace moextract
