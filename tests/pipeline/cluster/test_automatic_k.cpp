// An automatic k on odd and bad input: a defined result or one clear error, on every rank.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <mutex>

#include "cluster/automatic_k.h"
#include "cluster_cases.h"

namespace moextract::cluster {
namespace {

constexpr ChooseK kCriteria[] = {ChooseK::silhouette, ChooseK::stability, ChooseK::gap};

/// fit_automatic_k over ranks that are threads, ranks without rows among them; rank 0's, with all labels.
AutomaticKFit choose_over(const Rows& rows, const AutomaticKParams& range, int ranks, const KMeansParams& params = {}) {
  const auto first = deal(rows.count, ranks, true);
  std::vector<AutomaticKFit> found(static_cast<std::size_t>(ranks));
  comm::run_threads(ranks, [&](comm::Communicator& comm) {
    const auto r = static_cast<std::size_t>(comm.rank());
    const MemoryRows mine(rows.part(first[r], first[r + 1] - first[r]), rows.dimension, first[r]);
    Workers workers(1);
    found[r] = fit_automatic_k(mine, params, range, comm, workers);
  });
  AutomaticKFit whole = found[0];
  whole.fit.labels.clear();
  for (const AutomaticKFit& part : found) {
    EXPECT_EQ(part.fit.model.centroids, whole.fit.model.centroids);
    EXPECT_EQ(part.tried.size(), whole.tried.size());
    whole.fit.labels.insert(whole.fit.labels.end(), part.fit.labels.begin(), part.fit.labels.end());
  }
  return whole;
}

std::vector<std::int64_t> tried_k(const AutomaticKFit& found) {
  std::vector<std::int64_t> ks;
  for (const TriedK& one : found.tried) {
    ks.push_back(one.k);
    EXPECT_TRUE(std::isfinite(one.score) && std::isfinite(one.error) && std::isfinite(one.inertia)) << one.k;
  }
  return ks;
}

/// `count` rows in turn of `different` ones, far apart.
Rows in_turn(std::int64_t count, std::int64_t different) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < count; ++i) {
    for (std::int64_t j = 0; j < 3; ++j) values.push_back(static_cast<float>(i % different == j ? 100 : i % different));
  }
  return rows_of(values, 3);
}

TEST(AutomaticKInput, TheRangeEndsAtTheDifferentRows) {
  for (const ChooseK criterion : kCriteria) {
    for (const int ranks : {1, 3}) {
      SCOPED_TRACE(testing::Message() << "criterion " << static_cast<int>(criterion) << ", " << ranks << " ranks");
      const AutomaticKFit found =
          choose_over(in_turn(200, 4), {.most = 10, .criterion = criterion, .references = 3}, ranks);
      EXPECT_EQ(tried_k(found), (std::vector<std::int64_t>{2, 3, 4}));
      EXPECT_EQ(found.fit.model.k, 4);
      EXPECT_EQ(found.fit.model.inertia, 0);
      EXPECT_EQ(found.fit.model.sizes, std::vector<std::int64_t>(4, 50));
      // With a step the last k may be missed: the range is that of the settings, cut.
      EXPECT_EQ(
          tried_k(choose_over(in_turn(90, 6), {.most = 12, .step = 3, .criterion = criterion, .references = 2}, ranks)),
          (std::vector<std::int64_t>{2, 5}));
      // Below the range their number is all that can be tried.
      EXPECT_EQ(tried_k(choose_over(in_turn(90, 3), {.least = 5, .criterion = criterion, .references = 2}, ranks)),
                std::vector<std::int64_t>{3});
    }
  }
}

TEST(AutomaticKInput, EqualRowsAndOneRowAreOneCluster) {
  for (const ChooseK criterion : kCriteria) {
    for (const std::int64_t count : {1, 120}) {
      for (const int ranks : {1, 4}) {
        const AutomaticKFit found = choose_over(in_turn(count, 1), {.criterion = criterion}, ranks);
        EXPECT_EQ(tried_k(found), std::vector<std::int64_t>{1});
        EXPECT_EQ(found.fit.model.k, 1);
        EXPECT_EQ(found.fit.model.inertia, 0);
        EXPECT_EQ(found.fit.labels, std::vector<std::int32_t>(static_cast<std::size_t>(count), 0));
      }
    }
  }
}

TEST(AutomaticKInput, OneDirectionIsOneClusterOfUnitRows) {
  std::vector<float> values;
  for (int i = 1; i <= 40; ++i) values.insert(values.end(), {1.0f * i, 2.0f * i});
  EXPECT_EQ(tried_k(choose_over(rows_of(values, 2), {}, 2, {.spherical = true})), std::vector<std::int64_t>{1});
}

TEST(AutomaticKInput, ConstantColumnsDoNotMatter) {
  const Rows rows = blobs(300, 3, 4, 0.2, 7);
  std::vector<float> wide;
  const std::vector<float> values = rows.values();
  for (std::size_t i = 0; i < values.size(); i += 3)
    wide.insert(wide.end(), {5, values[i], values[i + 1], values[i + 2], 0});
  for (const ChooseK criterion : kCriteria) {
    const AutomaticKParams range{.most = 7, .criterion = criterion, .references = 3};
    const AutomaticKFit found = choose_over(rows_of(wide, 5), range, 2, {.n_init = 3});
    EXPECT_EQ(found.fit.model.k, 4);
    EXPECT_EQ(tried_k(found).size(), 6u);
  }
}

TEST(AutomaticKInput, WhatIsGoneOnFromMayBeACutRange) {
  const Rows rows = in_turn(90, 3);
  const MemoryRows source(rows.bits, 3);
  Workers workers(1);
  const auto alone = comm::make_self();
  for (const std::int64_t least : {2, 5}) {
    const AutomaticKParams range{.least = least};
    const std::vector<TriedK> whole = try_k(source, {}, range, *alone, workers);
    std::vector<std::int64_t> made;
    const std::vector<TriedK> again =
        try_k(source, {}, range, *alone, workers,
              {.before = whole, .on_tried = [&](const TriedK& one) { made.push_back(one.k); }});
    EXPECT_TRUE(made.empty());
    EXPECT_EQ(again.size(), whole.size());
  }
}

TEST(AutomaticKInput, BadRowsEndAllRanksWithOneMessage) {
  for (const ChooseK criterion : kCriteria) {
    const AutomaticKParams range{.criterion = criterion};
    const auto message = [&](ExitCode code, const Rows& rows) {
      return message_of_error(code, [&] { choose_over(rows, range, 4); });
    };
    Rows rows = in_turn(100, 5);
    rows.bits[71 * 3 + 1] = 0x7c00;
    EXPECT_NE(message(ExitCode::numerics, rows).find("row 71 "), std::string::npos);
    EXPECT_NE(message(ExitCode::input, Rows{0, 3, {}}).find("no rows"), std::string::npos);
    const std::string mixed = message_of_error(ExitCode::input, [&] {
      comm::run_threads(3, [&](comm::Communicator& comm) {
        const std::int64_t d = comm.rank() == 1 ? 2 : 3;
        const MemoryRows mine(blobs(12, d, 3, 1, 9).bits, d, 12 * comm.rank());
        Workers workers(1);
        fit_automatic_k(mine, {}, range, comm, workers);
      });
    });
    EXPECT_NE(mixed.find("different dimensions"), std::string::npos) << mixed;
  }
}

}  // namespace
}  // namespace moextract::cluster
