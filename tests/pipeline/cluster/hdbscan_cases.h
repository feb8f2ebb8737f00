// Rows, dealings over ranks and comparisons that the HDBSCAN tests share.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "cluster/hdbscan.h"
#include "cluster/memory_rows.h"
#include "comm/backends.h"
#include "core/float16.h"
#include "core/random.h"

namespace moextract::cluster::hdbscan {

struct HalfRows {
  std::int64_t dimension = 1;
  std::vector<std::uint16_t> bits;
  std::int64_t count() const { return static_cast<std::int64_t>(bits.size()) / dimension; }
  std::vector<float> values() const {
    std::vector<float> all(bits.size());
    from_float16(bits, all);
    return all;
  }
};

inline HalfRows half_rows(const std::vector<float>& values, std::int64_t dimension) {
  HalfRows rows{dimension, std::vector<std::uint16_t>(values.size())};
  to_float16(values, rows.bits);
  return rows;
}

/// Row i is of ball i % balls; one row in 25 is scattered widely.
inline HalfRows balls(std::int64_t count, std::int64_t dimension, std::int64_t balls, double apart,
                      std::uint64_t seed) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < count; ++i) {
    RandomStream centre(seed, 1, static_cast<std::uint64_t>(i % balls));
    RandomStream noise(seed, 2, static_cast<std::uint64_t>(i));
    const double spread = i % 25 == 7 ? 4 : 1;
    for (std::int64_t k = 0; k < dimension; ++k) {
      values.push_back(static_cast<float>(apart * centre.normal() + spread * noise.normal()));
    }
  }
  return half_rows(values, dimension);
}

struct Dealing {
  int ranks = 1, threads = 1;
  std::int64_t block_rows = 4096;
  bool lopsided = false;  ///< even ranks have no rows
};

/// Fits over ranks that are threads; checks that all have the same labels and trees. Labels of all rows, in order.
inline Fit fit_over(const HalfRows& rows, const Params& params, const Dealing& dealing = {}) {
  std::vector<std::int64_t> first = {0};
  for (int r = 0; r < dealing.ranks; ++r) {
    const int parts = dealing.lopsided ? dealing.ranks / 2 : dealing.ranks;
    const int done = dealing.lopsided ? (r + 1) / 2 : r + 1;
    first.push_back(r + 1 == dealing.ranks ? rows.count() : rows.count() * done / std::max(parts, 1));
  }
  std::vector<Fit> fits(static_cast<std::size_t>(dealing.ranks));
  comm::run_threads(dealing.ranks, [&](comm::Communicator& comm) {
    const auto r = static_cast<std::size_t>(comm.rank());
    const MemoryRows mine(
        {rows.bits.begin() + first[r] * rows.dimension, rows.bits.begin() + first[r + 1] * rows.dimension},
        rows.dimension, first[r], dealing.block_rows);
    Workers workers(dealing.threads);
    fits[r] = fit(mine, params, comm, workers);
  });
  Fit whole = fits[0];
  whole.rows = {};
  for (const Fit& part : fits) {
    EXPECT_EQ(part.model.spanning_tree, whole.model.spanning_tree);
    EXPECT_EQ(part.model.clusters.labels, whole.model.clusters.labels);
    whole.rows.labels.insert(whole.rows.labels.end(), part.rows.labels.begin(), part.rows.labels.end());
    whole.rows.noise += part.rows.noise;
    whole.rows.probabilities.insert(whole.rows.probabilities.end(), part.rows.probabilities.begin(),
                                    part.rows.probabilities.end());
  }
  return whole;
}

template <class T>
void expect_bits(const std::vector<T>& a, const std::vector<T>& b, const char* what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  EXPECT_TRUE(a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0) << what;
}

inline void expect_same_bits(const Fit& a, const Fit& b) {
  expect_bits(a.model.numbers, b.model.numbers, "numbers");
  expect_bits(a.model.points, b.model.points, "points");
  expect_bits(a.model.core, b.model.core, "core");
  EXPECT_EQ(a.model.spanning_tree, b.model.spanning_tree);
  expect_bits(a.model.clusters.stabilities, b.model.clusters.stabilities, "stabilities");
  expect_bits(a.model.clusters.probabilities, b.model.clusters.probabilities, "probabilities");
  expect_bits(a.model.outlier_scores, b.model.outlier_scores, "outlier scores");
  expect_bits(a.model.centroids, b.model.centroids, "centroids");
  expect_bits(a.model.pca.axes, b.model.pca.axes, "axes");
  expect_bits(a.rows.labels, b.rows.labels, "labels");
  expect_bits(a.rows.probabilities, b.rows.probabilities, "row probabilities");
}

/// Message of the UserError with `code` that `work` throws.
inline std::string message_of(ExitCode code, const std::function<void()>& work) {
  try {
    work();
  } catch (const UserError& error) {
    EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(code)) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

/// Prim over all pairs: the independent way to the one minimum spanning tree, in ascending order.
inline std::vector<Edge> prim(const MutualReachability& reach, std::int64_t rows) {
  std::vector<Edge> best(static_cast<std::size_t>(rows)), tree;
  std::vector<char> done(best.size(), 0);
  std::int32_t current = 0;
  while (static_cast<std::int64_t>(tree.size()) + 1 < rows) {
    done[static_cast<std::size_t>(current)] = 1;
    std::int32_t next = -1;
    for (std::int32_t j = 0; j < rows; ++j) {
      const auto at = static_cast<std::size_t>(j);
      if (done[at]) continue;
      best[at] = std::min(best[at], reach.edge(current, j, reach.distance(current, j)));
      if (next < 0 || best[at] < best[static_cast<std::size_t>(next)]) next = j;
    }
    tree.push_back(best[static_cast<std::size_t>(next)]);
    current = next;
  }
  std::sort(tree.begin(), tree.end());
  return tree;
}

}  // namespace moextract::cluster::hdbscan
