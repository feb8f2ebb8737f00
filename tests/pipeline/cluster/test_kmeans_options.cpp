// Options of k-means: starts, weights, stops, empty clusters, going on from a state, bounds, instruction sets.
#include <gtest/gtest.h>

#include <atomic>
#include <optional>

#include "cluster/kmeans.h"
#include "cluster/product_kernels.h"
#include "cluster_cases.h"
#include "weighted_rows.h"

namespace moextract::cluster {
namespace {

void expect_mentions(const std::string& message, const std::string& text) {
  EXPECT_NE(message.find(text), std::string::npos) << message;
}

TEST(KMeansOptions, BoundsAndInstructionSetsChangeNothing) {
  const Rows rows = blobs(1500, 50, 9, 3, 91);
  for (const std::int64_t k : {2, 12, 40}) {
    for (const bool spherical : {false, true}) {
      KMeansParams params{.k = k, .max_iterations = 15, .tolerance = 0, .spherical = spherical, .seed = 3};
      const KMeansFit with = fit_rows(rows, params);
      params.bounds_bytes = 0;
      const KMeansFit without = fit_rows(rows, params);
      expect_same_bits(with, without);
      params.rounded_bytes = 0;
      expect_same_bits(fit_rows(rows, params), with);
      params.bounds_bytes = 1 << 30;
      expect_same_bits(fit_rows(rows, params, {.ranks = 2}), with);
      params.rounded_bytes = 1 << 30;
      const InstructionSet best = kernels().set;
      for (const auto set : {InstructionSet::portable, InstructionSet::avx2, InstructionSet::avx512}) {
        if (!is_supported(set)) continue;
        choose_instruction_set(set);
        expect_same_bits(fit_rows(rows, params, {.ranks = 2, .threads = 2, .block_rows = 100}), with);
      }
      choose_instruction_set(best);
    }
  }
}

TEST(KMeansOptions, GivenCentroidsAreWhereItStarts) {
  const Rows rows = rows_of({0, 0, 1, 0, 10, 0, 12, 0}, 2);
  KMeansParams params{.k = 2, .max_iterations = 1, .tolerance = 0, .init = KMeansInit::given};
  params.initial = {0.4f, 0.1f, 11.0f, 0.0f};
  const KMeansFit fit = fit_rows(rows, params, {.ranks = 2});
  EXPECT_EQ(fit.model.centroids, (std::vector<float>{0.5f, 0, 11, 0}));
  EXPECT_EQ(fit.labels, (std::vector<std::int32_t>{0, 0, 1, 1}));
  EXPECT_DOUBLE_EQ(fit.model.inertia, 2.5);
  params.initial.pop_back();
  expect_mentions(message_of_error(ExitCode::input, [&] { fit_rows(rows, params); }), "3 values");
  params.initial = {0, 0, INFINITY, 0};
  expect_mentions(message_of_error(ExitCode::input, [&] { fit_rows(rows, params); }), "initial centroids");
}

TEST(KMeansOptions, ParallelStartsAreGoodAndTheSameOnAnyRanks) {
  const Rows rows = blobs(2400, 10, 24, 0.05, 92);
  for (const std::uint64_t seed : {1, 2, 3}) {
    const KMeansParams params{.k = 24, .init = KMeansInit::parallel, .init_sample = 100, .seed = seed};
    const KMeansFit one = fit_rows(rows, params);
    EXPECT_LT(one.model.inertia / 2400, 10 * 0.05 * 0.05 * 1.3) << "a ball was missed";
    expect_same_bits(fit_rows(rows, params, {.ranks = 4, .threads = 2, .block_rows = 77, .lopsided = true}), one);
  }
}

TEST(KMeansOptions, ParallelFallsBackWhereRowsAreFew) {
  std::vector<float> values(3 * 200, 1.0f);
  for (int i = 0; i < 4; ++i) values[static_cast<std::size_t>(3 * i)] = static_cast<float>(2 + i);
  const Rows rows = rows_of(values, 3);
  const KMeansFit fit = fit_rows(rows, {.k = 5, .init_sample = 5}, {.ranks = 3});
  EXPECT_EQ(fit.model.inertia, 0);
  expect_mentions(message_of_error(ExitCode::input, [&] { fit_rows(rows, {.k = 6, .init_sample = 6}); }),
                  "only 5 different rows");
}

TEST(KMeansOptions, AWeightIsARepetition) {
  const Rows rows = blobs(300, 7, 5, 2, 93);
  std::vector<std::uint32_t> weights;
  Rows repeated{0, 7, {}};
  for (std::int64_t i = 0; i < rows.count; ++i) {
    weights.push_back(static_cast<std::uint32_t>(i % 4));
    for (std::int64_t w = 0; w < i % 4; ++w) {
      const auto row = rows.part(i, 1);
      repeated.bits.insert(repeated.bits.end(), row.begin(), row.end());
      ++repeated.count;
    }
  }
  KMeansParams params{.k = 6, .max_iterations = 9, .tolerance = 0, .init = KMeansInit::given};
  params.initial = blobs(6, 7, 5, 1, 93).values();
  const KMeansFit expected = fit_rows(repeated, params);
  Workers workers(2);
  const auto comm = comm::make_self();
  const KMeansFit weighted = fit(WeightedRows(rows.bits, 7, weights), params, *comm, workers);
  EXPECT_EQ(weighted.model.centroids, expected.model.centroids);
  EXPECT_EQ(weighted.model.inertia, expected.model.inertia);
  for (const auto init : {KMeansInit::parallel, KMeansInit::plus_plus, KMeansInit::random}) {
    params.init = init;
    EXPECT_GT(fit(WeightedRows(rows.bits, 7, weights), params, *comm, workers).model.inertia, 0);
  }
  weights[5] = kMostWeight + 1;
  expect_mentions(
      message_of_error(ExitCode::input, [&] { fit(WeightedRows(rows.bits, 7, weights), params, *comm, workers); }),
      "row 5 ");
  expect_mentions(
      message_of_error(
          ExitCode::input,
          [&] { fit(WeightedRows(rows.bits, 7, std::vector<std::uint32_t>(300)), params, *comm, workers); }),
      "weight 0");
}

TEST(KMeansOptions, StopsByRelativeInertia) {
  const Rows rows = blobs(900, 8, 10, 2, 94);
  KMeansParams params{.k = 9, .max_iterations = 100, .tolerance = 0, .inertia_tolerance = 1e-2};
  const KMeansModel model = fit_rows(rows, params).model;
  ASSERT_TRUE(model.converged);
  const auto& history = model.history;
  ASSERT_GE(history.size(), 2u);
  const auto gain = [&](std::size_t i) { return (history[i - 1].inertia - history[i].inertia) / history[i].inertia; };
  EXPECT_LE(gain(history.size() - 1), 1e-2);
  for (std::size_t i = 1; i + 1 < history.size(); ++i) EXPECT_GT(gain(i), 1e-2);
  params.inertia_tolerance = -1;
  expect_mentions(message_of_error(ExitCode::config, [&] { fit_rows(rows, params); }), "inertia_tolerance");
}

TEST(KMeansOptions, EmptyClustersFollowThePolicy) {
  const Rows rows = blobs(50, 2, 2, 0.1, 95);
  KMeansParams params{.k = 3, .max_iterations = 4, .tolerance = 0, .init = KMeansInit::given};
  params.initial = blobs(3, 2, 2, 0.1, 95).values();
  params.initial[4] = params.initial[5] = 500;
  params.empty = EmptyClusters::keep;
  const KMeansFit kept = fit_rows(rows, params, {.ranks = 2});
  EXPECT_EQ(kept.model.sizes[2], 0);
  EXPECT_EQ(kept.model.centroids[4], 500.0f);
  params.empty = EmptyClusters::farthest;
  const KMeansFit filled = fit_rows(rows, params, {.ranks = 2});
  EXPECT_GT(filled.model.sizes[2], 0);
  EXPECT_GT(filled.model.empty_refilled, 0);
  EXPECT_LT(filled.model.inertia, kept.model.inertia);
  params.empty = EmptyClusters::refuse;
  expect_mentions(message_of_error(ExitCode::numerics, [&] { fit_rows(rows, params, {.ranks = 2}); }),
                  "1 of 3 clusters ran empty");
}

TEST(KMeansOptions, GoesOnFromAnyIterationToTheSameBits) {
  const Rows rows = blobs(700, 9, 8, 3, 96);
  bool first_start_won = false, later_start_won = false;
  for (const int seed : {1, 2, 3, 4, 5, 6}) {
    const bool spherical = seed % 2 == 0;
    const KMeansParams params{.k = 8,
                              .max_iterations = 12,
                              .tolerance = 0,
                              .n_init = 2,
                              .spherical = spherical,
                              .seed = static_cast<std::uint64_t>(seed)};
    const auto comm = comm::make_self();
    Workers workers(2);
    const MemoryRows source(rows.bits, 9, 0, 100);
    std::vector<KMeansState> states;
    const KMeansFit whole =
        fit(source, params, *comm, workers, KMeansHooks{.on_state = [&](const KMeansState& state, bool stopping) {
              EXPECT_FALSE(stopping);
              states.push_back(state);
            }});
    ASSERT_GT(states.size(), 6u);
    EXPECT_EQ(states.front().iteration, 0);
    const bool first_won = whole.model.history.front().inertia == states[1].history.front().inertia;
    (first_won ? first_start_won : later_start_won) = true;
    for (const KMeansState& state : states) {
      SCOPED_TRACE(testing::Message() << "start " << state.start << " iteration " << state.iteration);
      expect_same_bits(fit(source, params, *comm, workers, KMeansHooks{.resume_from = &state}), whole);
    }
    KMeansState foreign = states[3];
    foreign.centroids.pop_back();
    expect_mentions(
        message_of_error(ExitCode::resume,
                         [&] { fit(source, params, *comm, workers, KMeansHooks{.resume_from = &foreign}); }),
        "does not belong");
  }
  EXPECT_TRUE(first_start_won && later_start_won) << "what a resumed fit keeps of an earlier start was not tested";
}

TEST(KMeansOptions, AStopIsAgreedOnAndHandsOutTheStateItGoesOnFrom) {
  const Rows rows = blobs(700, 9, 8, 3, 96);
  const KMeansParams params{.k = 8, .max_iterations = 12, .tolerance = 0, .n_init = 2, .seed = 5};
  const KMeansFit whole = fit_rows(rows, params);
  for (const int ranks : {1, 3, 4}) {
    for (const int asked_at : {1, 2, 7}) {
      SCOPED_TRACE(testing::Message() << ranks << " ranks, stopped the time number " << asked_at);
      std::optional<KMeansState> last;
      std::atomic<int> left = 0;
      comm::run_threads(ranks, [&](comm::Communicator& comm) {
        Workers workers(1);
        const std::int64_t first = rows.count * comm.rank() / ranks, end = rows.count * (comm.rank() + 1) / ranks;
        const MemoryRows source(rows.part(first, end - first), 9, first, 100);
        int asked = 0;
        KMeansHooks hooks;
        // The last rank alone is told to stop.
        hooks.should_stop = [&] { return ++asked == asked_at && comm.rank() == ranks - 1; };
        hooks.on_state = [&](const KMeansState& state, bool stopping) {
          if (stopping) last = state;
        };
        try {
          fit(source, params, comm, workers, hooks);
        } catch (const KMeansStopped& stopped) {
          EXPECT_EQ(stopped.code(), ExitCode::resume);
          EXPECT_EQ(stopped.iteration(), asked_at - 1);
          ++left;
        }
      });
      ASSERT_EQ(left, ranks);
      ASSERT_TRUE(last);
      EXPECT_EQ(last->iteration, asked_at - 1);
      const auto comm = comm::make_self();
      Workers workers(2);
      // Asked again and again, it still gets to the end: each time goes at least one iteration further.
      std::optional<KMeansFit> end;
      for (int times = 0; !end && times < 30; ++times) {
        const KMeansState from = *last;
        KMeansHooks hooks{.resume_from = &from};
        hooks.should_stop = [] { return true; };
        hooks.on_state = [&](const KMeansState& state, bool) { last = state; };
        try {
          end = fit(MemoryRows(rows.bits, 9, 0, 100), params, *comm, workers, hooks);
        } catch (const KMeansStopped&) {
        }
      }
      ASSERT_TRUE(end);
      expect_same_bits(*end, whole);
    }
  }
}

TEST(KMeansOptions, ManyRowsOfManyClustersFollowTheTruth) {
  // Against the definition, row by row, with bounds at work over many iterations.
  const Rows rows = blobs(3000, 33, 40, 2, 97);
  const KMeansFit fit = fit_rows(rows, {.k = 50, .max_iterations = 30, .tolerance = 0, .seed = 2}, {.threads = 2});
  const std::vector<float> values = rows.values();
  long double inertia = 0;
  for (std::int64_t i = 0; i < rows.count; ++i) {
    long double best = INFINITY;
    std::int32_t label = -1;
    for (std::int32_t c = 0; c < 50; ++c) {
      long double sum = 0;
      for (int j = 0; j < 33; ++j) {
        const long double difference = static_cast<long double>(values[i * 33 + j]) - fit.model.centroids[c * 33 + j];
        sum += difference * difference;
      }
      if (sum < best) {
        best = sum;
        label = c;
      }
    }
    EXPECT_EQ(fit.labels[i], label);
    inertia += best;
  }
  EXPECT_NEAR(fit.model.inertia, inertia, 1e-14L * inertia);
}

}  // namespace
}  // namespace moextract::cluster
