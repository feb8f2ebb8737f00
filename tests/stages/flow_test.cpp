// Units that pass preparing, computing and writing: order, bounds, errors and stops on any number of threads.
#include "stages/collect/flow.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <set>
#include <stdexcept>
#include <thread>

namespace moextract::stages {
namespace {

void wait_ms(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

/// Notes what happens to each unit, and checks that it happens in order.
struct Recorder {
  static constexpr std::int64_t kUnits = 40;
  explicit Recorder(std::int64_t most) : window(most) {}

  std::int64_t window;
  std::vector<std::atomic<int>> prepared = std::vector<std::atomic<int>>(kUnits);
  std::vector<std::atomic<int>> computed = std::vector<std::atomic<int>>(kUnits);
  std::atomic<std::int64_t> begun{0}, written{0};
  std::set<std::thread::id> writers;

  FlowWork work() {
    FlowWork w;
    w.units = kUnits;
    w.pieces = [this](std::int64_t unit) {
      EXPECT_EQ(unit, begun++);
      EXPECT_LE(begun - written, window) << "more units underway than allowed";
      return 1 + unit % 4;
    };
    w.may_begin = [](std::int64_t) { return true; };
    w.prepare = [this](std::int64_t unit, std::int64_t piece) {
      EXPECT_LT(piece, 1 + unit % 4);
      if (unit % 5 == 0) wait_ms(1);
      ++prepared[static_cast<std::size_t>(unit)];
    };
    w.compute = [this](std::int64_t unit) {
      EXPECT_EQ(prepared[static_cast<std::size_t>(unit)], 1 + unit % 4) << "computed before it was prepared";
      if (unit % 3 == 0) wait_ms(2);
      ++computed[static_cast<std::size_t>(unit)];
    };
    w.write = [this](std::int64_t unit) {
      EXPECT_EQ(unit, written);
      EXPECT_EQ(computed[static_cast<std::size_t>(unit)], 1);
      writers.insert(std::this_thread::get_id());
      if (unit % 7 == 0) wait_ms(3);
      ++written;
    };
    return w;
  }
};

TEST(Flow, EveryUnitOnceInOrderWithinTheWindow) {
  for (const int threads : {1, 2, 3, 5}) {
    for (const int preparers : {0, 1, 2, 9}) {
      for (const std::int64_t window : {1, 6, 100}) {
        Workers workers(threads);
        Recorder recorder(std::max<std::int64_t>(window, threads + 1));
        Flow flow(recorder.work(), {window, preparers}, threads);
        EXPECT_EQ(flow.run(workers), Recorder::kUnits);
        EXPECT_EQ(recorder.written, Recorder::kUnits);
        EXPECT_EQ(recorder.writers.size(), 1u) << "one thread writes";
        EXPECT_EQ(recorder.writers.count(std::this_thread::get_id()), 0u) << "and it does nothing else";
        EXPECT_GT(flow.times().compute, 0);
      }
    }
  }
}

TEST(Flow, NothingToDo) {
  Workers workers(2);
  Flow flow({}, {}, 2);
  EXPECT_EQ(flow.run(workers), 0);
  EXPECT_EQ(flow_text(flow.times()), "");
}

TEST(Flow, TheFirstFailingStepIsTheOneThatIsReported) {
  for (const int threads : {1, 2, 4}) {
    for (int step = 0; step < 3; ++step) {
      Workers workers(threads);
      Recorder recorder(5);
      FlowWork work = recorder.work();
      const auto fails = [&](std::int64_t unit, const char* what) {
        // The later failure comes sooner.
        if (unit == 21) throw std::runtime_error("late");
        if (unit == 20) {
          wait_ms(10);
          throw std::runtime_error(what);
        }
      };
      if (step == 0) {
        work.prepare = [&, prepare = work.prepare](std::int64_t unit, std::int64_t piece) {
          if (unit != 22) return fails(unit, "20"), prepare(unit, piece);
          prepare(unit, piece);
        };
      }
      if (step == 1) {
        work.compute = [&, compute = work.compute](std::int64_t unit) { fails(unit, "20"), compute(unit); };
      }
      if (step == 2) {
        work.write = [&, write = work.write](std::int64_t unit) { fails(unit, "20"), write(unit); };
      }
      Flow flow(std::move(work), {5, 0}, threads);
      try {
        flow.run(workers);
        FAIL() << "no error";
      } catch (const std::runtime_error& error) {
        EXPECT_STREQ(error.what(), "20") << threads << " threads, step " << step;
      }
      EXPECT_EQ(recorder.written, 20) << "what comes before is finished";
    }
  }
}

TEST(Flow, AStopEndsAtTheUnitThatMayNotBegin) {
  for (const int threads : {1, 3}) {
    Workers workers(threads);
    Recorder recorder(6);
    FlowWork work = recorder.work();
    work.may_begin = [](std::int64_t unit) { return unit < 17; };
    Flow flow(std::move(work), {6, 0}, threads);
    EXPECT_EQ(flow.run(workers), 17);
    EXPECT_EQ(recorder.begun, 17);
    EXPECT_EQ(recorder.written, 17);
  }
}

TEST(Flow, SaysWhereTheTimeWent) {
  Workers workers(2);
  FlowWork work;
  work.units = 12;
  work.pieces = [](std::int64_t) { return 1; };
  work.may_begin = [](std::int64_t) { return true; };
  work.prepare = [](std::int64_t, std::int64_t) {};
  work.compute = [](std::int64_t) {};
  work.write = [](std::int64_t) { wait_ms(5); };
  Flow flow(std::move(work), {3, 0}, 2);
  flow.run(workers);
  const FlowTimes times = flow.times();
  EXPECT_GE(times.write, 0.05);
  EXPECT_GT(times.wait_write, 5 * (times.prepare + times.compute)) << "a slow disk is what it waits for";
  EXPECT_NE(flow_text(times).find("waiting for the disk"), std::string::npos);
}

}  // namespace
}  // namespace moextract::stages
