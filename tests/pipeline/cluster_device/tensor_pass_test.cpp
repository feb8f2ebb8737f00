// k-means by LibTorch's operations: the processor's bits, and labels that are true by 128-bit integers.
#include "cluster_device/tensor_pass.h"

#include <gtest/gtest.h>

#include <cmath>

#include "cluster/automatic_k.h"
#include "cluster/centroid_grid.h"
#include "cluster/distances.h"
#include "tests/pipeline/cluster/cluster_cases.h"
#include "tests/pipeline/cluster/weighted_rows.h"

namespace moextract::cluster {
namespace {

// Rows kept or sent in each pass, in large pieces or small ones.
std::vector<MakePass> ways() {
  return {make_tensor_passes({}), make_tensor_passes({.rows_bytes = 0}),
          make_tensor_passes({.rows_bytes = 1 << 24, .scratch_bytes = 40'000}),
          make_tensor_passes({.rows_bytes = 0, .scratch_bytes = 1})};
}

// The index of the nearest centroid by the definition, in integers; prices in units of 2^-36.
std::vector<std::int32_t> true_labels(const Rows& rows, const KMeansModel& model, bool spherical) {
  std::vector<float> values(rows.bits.size());
  prepare_rows(rows.bits, rows.dimension, spherical, values);
  std::vector<std::int32_t> labels;
  for (std::int64_t i = 0; i < rows.count; ++i) {
    __int128 least = 0;
    std::int32_t label = -1;
    for (std::int64_t c = 0; c < model.k; ++c) {
      // |c|^2 - 2 x.c in units of 2^-72
      __int128 score =
          model.prices.empty() ? 0 : static_cast<__int128>(std::rint(std::ldexp(model.prices[c], 36))) << 36;
      for (std::int64_t j = 0; j < rows.dimension; ++j) {
        const auto x = static_cast<__int128>(std::ldexp(static_cast<double>(values[i * rows.dimension + j]), 36));
        const auto c_j =
            static_cast<__int128>(std::ldexp(static_cast<double>(model.centroids[c * rows.dimension + j]), 36));
        score += c_j * c_j - 2 * x * c_j;
      }
      if (label >= 0 && score >= least) continue;
      least = score;
      label = static_cast<std::int32_t>(c);
    }
    labels.push_back(label);
  }
  return labels;
}

long double true_inertia(const Rows& rows, const KMeansFit& fit, bool spherical) {
  std::vector<float> values(rows.bits.size());
  prepare_rows(rows.bits, rows.dimension, spherical, values);
  long double sum = 0;
  for (std::int64_t i = 0; i < rows.count; ++i) {
    for (std::int64_t j = 0; j < rows.dimension; ++j) {
      const long double difference = static_cast<long double>(values[i * rows.dimension + j]) -
                                     fit.model.centroids[fit.labels[i] * rows.dimension + j];
      sum += difference * difference;
    }
  }
  return sum;
}

void expect_the_processors_bits(const Rows& rows, const KMeansParams& params) {
  const KMeansFit expected = fit_rows(rows, params);
  EXPECT_EQ(expected.labels, true_labels(rows, expected.model, params.spherical));
  for (const MakePass& way : ways()) {
    const KMeansFit found = fit_rows(rows, params, {}, way);
    expect_same_bits(found, expected);
    EXPECT_EQ(found.labels, true_labels(rows, found.model, params.spherical));
    const long double inertia = true_inertia(rows, found, params.spherical);
    EXPECT_NEAR(found.model.inertia, inertia, 1e-9L * inertia + 1e-12L);
    for (const int ranks : {2, 3}) {
      for (const bool lopsided : {false, true}) {
        SCOPED_TRACE(testing::Message() << ranks << " ranks" << (lopsided ? ", lopsided" : ""));
        expect_same_bits(fit_rows(rows, params, {ranks, 2, 77, lopsided}, way), expected);
      }
    }
  }
}

TEST(TensorPass, GivesTheProcessorsBits) {
  for (const bool spherical : {false, true}) {
    SCOPED_TRACE(spherical ? "spherical" : "Euclidean");
    expect_the_processors_bits(blobs(701, 24, 5, 3, 81),
                               {.k = 7, .max_iterations = 6, .init_sample = 200, .spherical = spherical, .seed = 9});
  }
}

TEST(TensorPass, GivesThemWithAsManyClustersAsRowsNearly) {
  expect_the_processors_bits(blobs(60, 6, 4, 1, 82), {.k = 57, .max_iterations = 4, .seed = 3});
  expect_the_processors_bits(blobs(9, 3, 9, 1, 83), {.k = 9, .max_iterations = 3, .seed = 3});
  expect_the_processors_bits(blobs(40, 3, 2, 1, 84), {.k = 1, .max_iterations = 3, .seed = 3});
}

// Whole numbers around centroids that lie opposite each other: most rows are as near to two of them as to one.
TEST(TensorPass, BreaksTiesAsTheProcessorDoes) {
  std::vector<float> values;
  for (int i = 0; i < 600; ++i) {
    RandomStream random(85, 1, i / 2);  // each row twice
    for (int j = 0; j < 4; ++j) values.push_back(static_cast<float>(std::floor(3 * random.uniform()) - 1));
  }
  KMeansParams params{.k = 6, .max_iterations = 1, .init = KMeansInit::given};
  for (int c = 0; c < 6; ++c) {
    for (int j = 0; j < 4; ++j) params.initial.push_back(j == c / 2 ? (c % 2 ? -1.0f : 1.0f) : 0.0f);
  }
  const Rows rows = rows_of(values, 4);
  expect_the_processors_bits(rows, params);
  params.max_iterations = 5;
  expect_the_processors_bits(rows, params);
  // Equal centroids: the lowest index has all rows, the others run empty and keep their place.
  params.initial.assign(24, 0.25f);
  params.empty = EmptyClusters::keep;
  params.max_iterations = 2;
  expect_the_processors_bits(rows, params);
  params.empty = EmptyClusters::farthest;
  expect_the_processors_bits(rows, params);
}

TEST(TensorPass, GivesThemForValuesTooLargeForOneWord) {
  std::vector<float> values = blobs(400, 9, 4, 1, 86).values();
  for (float& value : values) value *= 3000;
  values[5] = 0x1.0p-24f;
  values[77] = -65504;
  expect_the_processors_bits(rows_of(values, 9), {.k = 5, .max_iterations = 6, .seed = 2});
}

TEST(TensorPass, GivesThemForBalancedClusters) {
  expect_the_processors_bits(blobs(500, 8, 3, 2, 87), {.k = 6, .max_iterations = 8, .seed = 4, .balance = 0.1});
}

TEST(TensorPass, HeedsWeights) {
  for (const float scale : {1.0f, 500.0f}) {  // the second needs two words a sum
    std::vector<float> values = blobs(300, 7, 5, 2, 88).values();
    for (float& value : values) value *= scale;
    const Rows rows = rows_of(values, 7);
    std::vector<std::uint32_t> weights;
    for (std::int64_t i = 0; i < rows.count; ++i) weights.push_back(i % 9 == 0 ? kMostWeight : i % 4);
    const WeightedRows source(rows.bits, rows.dimension, weights);
    const auto comm = comm::make_self();
    Workers workers(2);
    for (const bool spherical : {false, true}) {
      const KMeansParams params{.k = 5, .max_iterations = 6, .spherical = spherical, .seed = 5};
      const KMeansFit expected = fit(source, params, *comm, workers);
      for (const MakePass& way : ways()) {
        expect_same_bits(fit(source, params, *comm, workers, KMeansHooks{.make_pass = way}), expected);
      }
    }
  }
}

TEST(TensorPass, GoesOnFromAStateOfTheProcessor) {
  const Rows rows = blobs(400, 10, 6, 3, 89);
  const KMeansParams params{.k = 6, .max_iterations = 7, .tolerance = 0, .n_init = 2, .seed = 6};
  const KMeansFit expected = fit_rows(rows, params);
  std::vector<KMeansState> states;
  const auto comm = comm::make_self();
  Workers workers(1);
  const MemoryRows source(rows.bits, 10);
  fit(source, params, *comm, workers,
      KMeansHooks{.on_state = [&](const KMeansState& state, bool) { states.push_back(state); }});
  for (const KMeansState& state : states) {
    const KMeansHooks hooks{.make_pass = make_tensor_passes({}), .resume_from = &state};
    expect_same_bits(fit(source, params, *comm, workers, hooks), expected);
  }
}

TEST(TensorPass, AgreesOnABadRow) {
  Rows rows = blobs(100, 4, 2, 1, 90);
  rows.bits[99 * 4] = 0x7e00;
  // The survey finds it first; a source that changes afterwards is found by the pass.
  class Changing : public MemoryRows {
   public:
    Changing(Rows good, Rows bad) : MemoryRows(std::move(good.bits), 4, 500), bad_(std::move(bad.bits), 4, 500) {}
    void for_each_block(const std::function<void(const RowBlock&)>& visit) const override {
      if (reads_++ < 1) return MemoryRows::for_each_block(visit);
      bad_.for_each_block(visit);
    }

   private:
    MemoryRows bad_;
    mutable int reads_ = 0;
  };
  KMeansParams params{.k = 2, .init = KMeansInit::random};
  comm::run_threads(2, [&](comm::Communicator& comm) {
    Workers workers(1);
    const Rows good = blobs(100, 4, 2, 1, 90);
    const Changing source(good, comm.rank() == 1 ? rows : good);
    const std::string message = message_of_error(ExitCode::numerics, [&] {
      fit(source, params, comm, workers, KMeansHooks{.make_pass = make_tensor_passes({})});
    });
    EXPECT_NE(message.find("row 599 "), std::string::npos) << message;
  });
}

TEST(TensorPass, ServesTheChoiceOfK) {
  const Rows rows = blobs(300, 5, 4, 0.5, 91);
  const MemoryRows source(rows.bits, 5);
  const auto comm = comm::make_self();
  Workers workers(1);
  for (const ChooseK criterion : {ChooseK::silhouette, ChooseK::stability}) {
    const AutomaticKParams range{.least = 2, .most = 5, .criterion = criterion, .seeds = 2};
    const std::vector<TriedK> expected = try_k(source, {}, range, *comm, workers);
    int passes = 0;
    const MakePass counted = [&](const RowSource& from, const PassFacts& facts, Workers& team) {
      ++passes;
      return make_tensor_passes({})(from, facts, team);
    };
    const std::vector<TriedK> found = try_k(source, {}, range, *comm, workers, {.make_pass = counted});
    EXPECT_GE(passes, 4);
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(found[i].score, expected[i].score);
      EXPECT_EQ(found[i].inertia, expected[i].inertia);
    }
  }
}

}  // namespace
}  // namespace moextract::cluster
