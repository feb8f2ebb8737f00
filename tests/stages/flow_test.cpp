// Units that pass reading, preparing, computing and writing: order, bounds, errors and stops on any number of threads.
#include "stages/collect/flow.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <set>
#include <stdexcept>
#include <thread>

#include "tests/stages/gate.h"

namespace moextract::stages {
namespace {

using test::Gate;

void wait_ms(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

/// Notes what happens to each unit, and checks that it happens in order.
struct Recorder {
  static constexpr std::int64_t kUnits = 40;
  explicit Recorder(std::int64_t most) : window(most) {}

  std::int64_t window;
  std::vector<std::atomic<int>> read = std::vector<std::atomic<int>>(kUnits);
  std::vector<std::atomic<int>> prepared = std::vector<std::atomic<int>>(kUnits);
  std::vector<std::atomic<int>> computed = std::vector<std::atomic<int>>(kUnits);
  std::atomic<std::int64_t> begun{0}, asked{0}, written{0};
  std::set<std::thread::id> writers;

  FlowWork work() {
    FlowWork w;
    w.units = kUnits;
    w.pieces = [this](std::int64_t unit) {
      EXPECT_EQ(unit, begun++);
      EXPECT_LE(begun - written, window) << "more units underway than allowed";
      return 1 + unit % 4;
    };
    w.may_begin = [this](std::int64_t unit) {
      EXPECT_EQ(unit, asked++);
      EXPECT_EQ(prepared[static_cast<std::size_t>(unit)], 0);
      return true;
    };
    w.read = [this](std::int64_t unit, std::int64_t piece) {
      EXPECT_LT(piece, 1 + unit % 4);
      if (unit % 4 == 0) wait_ms(1);
      read[static_cast<std::size_t>(unit)] += 1 << (4 * piece);
    };
    w.prepare = [this](std::int64_t unit, std::int64_t piece) {
      EXPECT_EQ(read[static_cast<std::size_t>(unit)] >> (4 * piece) & 15, 1) << "prepared before it was read, once";
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
        Flow flow(recorder.work(), {window, preparers, 1 + preparers % 4}, threads);
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
    for (int step = 0; step < 4; ++step) {
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
      if (step == 3) {
        work.read = [&, read = work.read](std::int64_t unit, std::int64_t piece) {
          fails(unit, "20"), read(unit, piece);
        };
      }
      Flow flow(std::move(work), {5, 0, 3}, threads);
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
    // What was read ahead of the stop is dropped, with its errors.
    work.read = [read = work.read](std::int64_t unit, std::int64_t piece) {
      if (unit >= 17) throw std::runtime_error("read ahead");
      read(unit, piece);
    };
    Flow flow(std::move(work), {6, 0, 2}, threads);
    EXPECT_EQ(flow.run(workers), 17);
    EXPECT_EQ(recorder.prepared[17], 0);
    EXPECT_EQ(recorder.written, 17);
  }
}

TEST(Flow, SaysWhereTheTimeWent) {
  Workers workers(2);
  FlowWork work;
  work.units = 12;
  work.pieces = [](std::int64_t) { return 1; };
  work.may_begin = [](std::int64_t) { return true; };
  const auto nothing = [](std::int64_t, std::int64_t) {};
  work.read = work.prepare = nothing;
  work.compute = [](std::int64_t) {};
  work.write = [](std::int64_t) { wait_ms(5); };
  FlowWork other = work;
  Flow flow(std::move(work), {3, 0, 1}, 2);
  flow.run(workers);
  const FlowTimes times = flow.times();
  EXPECT_GE(times.write, 0.05);
  EXPECT_GT(times.wait_write, 5 * (times.prepare + times.compute)) << "a slow disk is what it waits for";
  EXPECT_GT(times.wait_write, 5 * times.wait_read);
  // The same of a disk that is slow to read.
  other.read = [](std::int64_t, std::int64_t) { wait_ms(5); };
  other.write = [](std::int64_t) {};
  Flow slow(std::move(other), {3, 0, 1}, 2);
  slow.run(workers);
  EXPECT_GE(slow.times().read, 0.05);
  EXPECT_GT(slow.times().wait_read, 5 * (slow.times().prepare + slow.times().compute)) << "which is no decoding";
  EXPECT_GT(slow.times().wait_read, 5 * slow.times().wait_write);
  EXPECT_EQ(
      flow_text({.prepare = 1, .compute = 4, .wait_read = 3, .wait_write = 2, .wait_unit = 0, .read = 9, .write = 9}),
      "decode 10 %, forward 40 %, waiting for reading 30 %, for writing 20 %");
}

TEST(Flow, ReadsAheadOfWhatIsPreparedAndNoFurtherThanTheWindow) {
  for (const int threads : {1, 2}) {
    for (const int readers : {1, 3}) {
      constexpr std::int64_t kWindow = 5;
      Workers workers(threads);
      Recorder recorder(kWindow);  // sees to it that reading begins no further
      FlowWork work = recorder.work();
      Gate full;
      std::atomic<std::int64_t> read{0};
      work.read = [&](std::int64_t unit, std::int64_t piece) {
        recorder.read[static_cast<std::size_t>(unit)] += 1 << (4 * piece);
        if (++read == 1 + 2 + 3 + 4 + 1) full.open();  // pieces of the first five units
      };
      work.prepare = [&, prepare = work.prepare](std::int64_t unit, std::int64_t piece) {
        if (unit == 0) {
          EXPECT_TRUE(full.wait()) << "nothing is read while a piece is prepared";
          EXPECT_EQ(recorder.begun, kWindow);
        }
        prepare(unit, piece);
      };
      Flow flow(std::move(work), {kWindow, 0, readers}, threads);
      EXPECT_EQ(flow.run(workers), Recorder::kUnits);
    }
  }
}

TEST(Flow, APieceThatIsReadLateDoesNotHideTheErrorBeforeIt) {
  // The fourth piece of unit 3 fails to be read before the second one was read, which then fails to be prepared.
  for (const int threads : {1, 3}) {
    Workers workers(threads);
    Recorder recorder(6);
    FlowWork work = recorder.work();
    Gate failed;
    work.read = [&, read = work.read](std::int64_t unit, std::int64_t piece) {
      if (unit == 3 && piece == 3) {
        failed.open();
        throw std::runtime_error("fourth");
      }
      if (unit == 3 && piece == 1) {
        EXPECT_TRUE(failed.wait());
        wait_ms(5);
      }
      read(unit, piece);
    };
    work.prepare = [prepare = work.prepare](std::int64_t unit, std::int64_t piece) {
      if (unit == 3 && piece == 1) throw std::runtime_error("second");
      prepare(unit, piece);
    };
    Flow flow(std::move(work), {6, 0, 4}, threads);
    try {
      flow.run(workers);
      FAIL() << "no error";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "second");
    }
    EXPECT_EQ(recorder.written, 3);
  }
}

}  // namespace
}  // namespace moextract::stages
