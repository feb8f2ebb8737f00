// HDBSCAN asked to stop, or failing midway: all ranks leave together.
#include <gtest/gtest.h>

#include <atomic>

#include "hdbscan_cases.h"

namespace moextract::cluster::hdbscan {
namespace {

/// How many of `ranks` ranks left with Stopped, when the last one says yes to its question number `at` (from 1).
/// `labels` are those of the rows otherwise.
int stopped_ranks(const HalfRows& rows, const Params& params, int ranks, int at,
                  std::vector<std::int32_t>* labels = nullptr) {
  // Rank 0 has most of the rows, and rank 2 none.
  const std::int64_t n = rows.count(), few = n / 50;
  std::vector<std::int64_t> begin(static_cast<std::size_t>(ranks) + 1, n);
  begin[0] = 0;
  if (ranks > 1) begin[1] = n - few;
  if (ranks > 3) begin[2] = begin[3] = n - few / 2;
  std::atomic<int> left = 0;
  std::vector<std::vector<std::int32_t>> parts(static_cast<std::size_t>(ranks));
  comm::run_threads(ranks, [&](comm::Communicator& comm) {
    const auto r = static_cast<std::size_t>(comm.rank());
    const MemoryRows mine(
        {rows.bits.begin() + begin[r] * rows.dimension, rows.bits.begin() + begin[r + 1] * rows.dimension},
        rows.dimension, begin[r], 5000);
    Workers workers(1);
    int question = 0;
    const Hooks hooks{.should_stop = [&] { return ++question == at && comm.rank() == ranks - 1; }};
    try {
      parts[r] = fit(mine, params, comm, workers, hooks).rows.labels;
    } catch (const Stopped& stopped) {
      EXPECT_EQ(stopped.code(), ExitCode::resume);
      ++left;
    }
  });
  if (labels != nullptr) {
    for (const auto& part : parts) labels->insert(labels->end(), part.begin(), part.end());
  }
  return left;
}

TEST(HdbscanStop, AnyRanksYesEndsAllOfThemAtAnyQuestion) {
  // Enough rows that rank 0 pauses while it predicts.
  const HalfRows rows = balls(70'000, 2, 3, 6, 21);
  const Params params{.min_cluster_size = 15, .min_samples = 4, .sample_rows = 300};
  const std::vector<std::int32_t> expected = fit_over(rows, params).rows.labels;
  for (const int ranks : {1, 2, 3, 4}) {
    int at = 1;
    while (true) {
      SCOPED_TRACE(testing::Message() << ranks << " ranks, question " << at);
      std::vector<std::int32_t> labels;
      const int left = stopped_ranks(rows, params, ranks, at, &labels);
      if (left == 0) {
        EXPECT_EQ(labels, expected);
        break;
      }
      ASSERT_EQ(left, ranks);
      ASSERT_LT(++at, 100);
    }
    // Between sample, projection and tree; after a round of neighbours; Boruvka's rounds; while rows are predicted.
    EXPECT_GE(at, 9);
  }
}

TEST(HdbscanStop, TheFitOnHeldBackRowsStopsToo) {
  const Fit whole = fit_over(balls(400, 4, 3, 6, 22), {.min_cluster_size = 15});
  std::atomic<int> left = 0;
  comm::run_threads(3, [&](comm::Communicator& comm) {
    Workers workers(1);
    const Hooks hooks{.should_stop = [&] { return comm.rank() == 1; }};
    try {
      held_back_agreement(whole.model, 50, comm, workers, hooks);
    } catch (const Stopped&) {
      ++left;
    }
  });
  EXPECT_EQ(left, 3);
}

// A source whose rows cannot be read to the end, at a given pass.
class FailingRows : public MemoryRows {
 public:
  FailingRows(const HalfRows& rows, std::int64_t first, int failing_pass)
      : MemoryRows(rows.bits, rows.dimension, first, 1000), failing_(failing_pass) {}
  void for_each_block(const std::function<void(const RowBlock&)>& visit) const override {
    ++pass_;
    MemoryRows::for_each_block([&](const RowBlock& block) {
      if (pass_ == failing_ && block.first_local > local_rows() / 2) fail(ExitCode::input, "shard 3 cannot be read");
      visit(block);
    });
  }

 private:
  mutable int pass_ = 0;
  int failing_;
};

TEST(HdbscanStop, AFailureOfOneRankEndsTheOthersInTheirRows) {
  for (const bool asks : {false, true}) {
    for (const int pass : {1, 2, 3}) {  // hashes, sample, prediction
      std::atomic<int> ended = 0;
      const std::string message = message_of(ExitCode::input, [&] {
        comm::run_threads(3, [&](comm::Communicator& comm) {
          const HalfRows rows = balls(comm.rank() == 0 ? 80'000 : 40'000 + comm.rank(), 2, 3, 6, 23);
          const FailingRows mine(rows, 100'000 * comm.rank(), comm.rank() == 1 ? pass : 0);
          Workers workers(1);
          Hooks hooks;
          if (asks) hooks.should_stop = [] { return false; };
          try {
            fit(mine, {.min_cluster_size = 15, .sample_rows = 200}, comm, workers, hooks);
          } catch (const UserError&) {
            ++ended;
            throw;
          }
        });
      });
      EXPECT_NE(message.find("shard 3"), std::string::npos) << message;
      EXPECT_EQ(ended, 3);
    }
  }
}

}  // namespace
}  // namespace moextract::cluster::hdbscan
