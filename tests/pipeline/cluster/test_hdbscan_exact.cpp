// The parts of HDBSCAN that must be exact, against brute force, and the same bits for any ranks and threads.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cluster/hdbscan_kernel.h"
#include "cluster/hdbscan_neighbours.h"
#include "cluster/hdbscan_rows.h"
#include "cluster/hdbscan_spanning_tree.h"
#include "cluster/symmetric_eigen.h"
#include "hdbscan_cases.h"

namespace moextract::cluster::hdbscan {
namespace {

std::vector<std::int32_t> ascending(std::int64_t count) {
  std::vector<std::int32_t> numbers(static_cast<std::size_t>(count));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

// Rows for which float arithmetic is bad: far from the origin, of very different lengths, near duplicates.
std::vector<float> awkward_rows(std::int64_t count, std::int64_t dimension) {
  std::vector<float> rows;
  for (std::int64_t i = 0; i < count; ++i) {
    RandomStream random(3, 4, static_cast<std::uint64_t>(i));
    const double scale = i % 3 == 0 ? 1e-3 : i % 3 == 1 ? 1 : 300;
    for (std::int64_t k = 0; k < dimension; ++k) {
      rows.push_back(i % 10 == 9 ? rows[rows.size() - static_cast<std::size_t>(dimension)]
                                 : static_cast<float>(1000 + scale * random.normal()));
    }
    if (i % 10 == 9) rows.back() = std::nextafter(rows.back(), 0.0f);
  }
  return rows;
}

TEST(HdbscanKernel, BoundsHoldTheExactDistanceInEveryForm) {
  Workers workers(1);
  for (const std::int64_t d : {1, 2, 7, 8, 33, 768}) {
    const std::int64_t n = 100;
    const std::vector<float> rows = awkward_rows(n, d);
    const FastRows fast = make_fast_rows(rows, mean_row(rows, d), workers);
    const Panels panels(fast, ascending(n), workers);
    ASSERT_EQ(panels.count(), 3);
    for (const Kernel& kernel : kernels()) {
      SCOPED_TRACE(kernel.name);
      for (std::int64_t top = 0; top + kGroupRows <= n; top += kGroupRows) {
        for (std::int64_t p = 0; p < panels.count(); ++p) {
          std::array<float, kGroupRows> row_bounds;
          std::array<float, kPanelColumns> column_bounds;
          row_bounds.fill(1e30f);
          column_bounds.fill(-1e30f);
          column_bounds[5] = 1e30f;
          TileJob job{.panel = panels.panel(p),
                      .dimension = d,
                      .row_norms = fast.norms.data() + top,
                      .column_norms = panels.norms(p),
                      .row_bounds = row_bounds.data(),
                      .column_bounds = column_bounds.data()};
          for (std::int64_t r = 0; r < kGroupRows; ++r) job.rows[static_cast<std::size_t>(r)] = fast.row(top + r);
          TileHits hits;
          ASSERT_TRUE(kernel.either(job, hits));
          for (std::int64_t r = 0; r < kGroupRows; ++r) {
            for (int c = 0; c < kPanelColumns; ++c) {
              const auto at = static_cast<std::size_t>(r);
              const std::int32_t j = panels.rows(p)[c];
              ASSERT_EQ(hits.by_row[at] >> c & 1, j >= 0 ? 1u : 0u);
              ASSERT_EQ(hits.by_column[at] >> c & 1, c == 5 && j >= 0 ? 1u : 0u);
              if (j < 0) continue;
              const double t = hits.t[at * kPanelColumns + static_cast<std::size_t>(c)];
              const double exact = exact_squared_distance(rows.data() + (top + r) * d, rows.data() + j * d, d);
              ASSERT_LE(t, exact) << d << " " << top + r << " " << j;
              ASSERT_GE(t + fast.spread[static_cast<std::size_t>(top + r)] + fast.spread[static_cast<std::size_t>(j)],
                        exact);
            }
          }
          // Both: limits of rows against values of columns.
          std::array<float, kGroupRows> limits;
          limits.fill(0);
          limits[3] = 2e30f;
          job.row_limits = limits.data();
          ASSERT_EQ(kernel.both(job, hits), panels.rows(p)[0] >= 0);
          for (int c = 0; c < kPanelColumns; ++c) {
            ASSERT_EQ(hits.by_row[3] >> c & 1, panels.rows(p)[c] >= 0 ? 1u : 0u);
            ASSERT_EQ(hits.by_row[2] >> c & 1, panels.rows(p)[c] >= 0 && c != 5 ? 1u : 0u);
          }
        }
      }
    }
  }
}

TEST(HdbscanKernel, TheBoundIsNotIdle) {
  // Were the bound dropped, float arithmetic would put some pairs in the wrong order: the test above can fail.
  Workers workers(1);
  const std::vector<float> rows = awkward_rows(100, 33);
  FastRows fast = make_fast_rows(rows, std::vector<float>(33, 0.0f), workers);
  bool beyond = false;
  for (std::int64_t i = 0; i < 100; ++i) {
    for (std::int64_t j = 0; j < 100; ++j) {
      float sum = 0, a = 0, b = 0;
      for (std::int64_t k = 0; k < 33; ++k) {
        sum += fast.row(i)[k] * fast.row(j)[k];
        a += fast.row(i)[k] * fast.row(i)[k];
        b += fast.row(j)[k] * fast.row(j)[k];
      }
      beyond |= a - 2 * sum + b > exact_squared_distance(rows.data() + i * 33, rows.data() + j * 33, 33);
    }
  }
  EXPECT_TRUE(beyond);
}

NeighbourLists brute_neighbours(const std::vector<float>& rows, std::int64_t d, std::int64_t length) {
  const std::int64_t n = static_cast<std::int64_t>(rows.size()) / d;
  NeighbourLists lists{n, std::min(length, n - 1), {}, {}};
  for (std::int64_t i = 0; i < n; ++i) {
    std::vector<std::pair<double, std::int32_t>> all;
    for (std::int64_t j = 0; j < n; ++j) {
      if (j == i) continue;
      all.emplace_back(std::sqrt(exact_squared_distance(rows.data() + i * d, rows.data() + j * d, d)),
                       static_cast<std::int32_t>(j));
    }
    std::sort(all.begin(), all.end());
    for (std::int64_t k = 0; k < lists.length; ++k) {
      lists.distance.push_back(all[static_cast<std::size_t>(k)].first);
      lists.index.push_back(all[static_cast<std::size_t>(k)].second);
    }
  }
  return lists;
}

struct Prepared {
  FastRows fast;
  NeighbourLists lists;
};
Prepared prepare(const std::vector<float>& rows, std::int64_t d, std::int64_t length, comm::Communicator& comm,
                 Workers& workers) {
  Prepared made;
  made.fast = make_fast_rows(rows, mean_row(rows, d), workers);
  const Panels panels(made.fast, ascending(made.fast.count), workers);
  made.lists = nearest_neighbours(rows, made.fast, panels, length, comm, workers);
  return made;
}

TEST(HdbscanNeighbours, AreThoseOfBruteForce) {
  std::vector<std::pair<std::vector<float>, std::int64_t>> cases;
  cases.emplace_back(awkward_rows(300, 5), 5);
  cases.emplace_back(balls(500, 40, 4, 3, 1).values(), 40);
  cases.emplace_back(std::vector<float>(3 * 260, 1.5f), 3);  // all rows equal
  std::vector<float> grid;                                   // many equal distances, each row three times
  for (int i = 0; i < 300; ++i) grid.insert(grid.end(), {static_cast<float>(i / 3 % 10), static_cast<float>(i / 30)});
  cases.emplace_back(grid, 2);
  for (const auto& [rows, d] : cases) {
    for (const std::int64_t length : {1, 4, 30}) {
      const NeighbourLists brute = brute_neighbours(rows, d, length);
      for (const int ranks : {1, 3}) {
        comm::run_threads(ranks, [&, &rows = rows, &d = d](comm::Communicator& comm) {
          Workers workers(2);
          const NeighbourLists lists = prepare(rows, d, length, comm, workers).lists;
          EXPECT_EQ(lists.index, brute.index);
          EXPECT_EQ(lists.distance, brute.distance);
        });
      }
    }
  }
}

TEST(HdbscanSpanningTree, IsThatOfPrim) {
  std::vector<std::pair<std::vector<float>, std::int64_t>> cases;
  for (const std::uint64_t seed : {1, 2, 3}) {
    cases.emplace_back(balls(400, 3, 4, 8, seed).values(), 3);
    cases.emplace_back(balls(300, 30, 5, 3, seed).values(), 30);
  }
  cases.emplace_back(awkward_rows(250, 6), 6);
  cases.emplace_back(std::vector<float>(2 * 150, -2.0f), 2);
  std::vector<float> grid;
  for (int i = 0; i < 360; ++i) grid.insert(grid.end(), {static_cast<float>(i / 3 % 12), static_cast<float>(i / 36)});
  cases.emplace_back(grid, 2);
  std::vector<float> far;  // two groups of duplicates far apart
  for (int i = 0; i < 200; ++i) far.insert(far.end(), {i % 2 ? 1000.0f : 0.0f, 0.0f, 1.0f});
  cases.emplace_back(far, 3);
  std::int64_t searched = 0;
  for (const auto& [rows, d] : cases) {
    const std::int64_t n = static_cast<std::int64_t>(rows.size()) / d;
    for (const double alpha : {1.0, 1.7, 0.6}) {
      for (const std::int64_t min_samples : {1, 6}) {
        const std::vector<double> core = core_distances(brute_neighbours(rows, d, min_samples), min_samples);
        const MutualReachability reach{rows, d, core, alpha};
        const std::vector<Edge> expected = prim(reach, n);
        for (const int ranks : {1, 2}) {
          comm::run_threads(ranks, [&, &rows = rows, &d = d](comm::Communicator& comm) {
            Workers workers(2);
            const Prepared made = prepare(rows, d, min_samples + 1, comm, workers);
            SpanningTreeEffort effort;
            EXPECT_EQ(minimum_spanning_tree(reach, made.fast, made.lists, comm, workers, &effort), expected);
            if (comm.is_root()) searched += effort.searched_rows;
          });
        }
      }
    }
  }
  EXPECT_GT(searched, 1000) << "no case needed a search";
}

TEST(Hdbscan, GivesTheSameBitsOnAnyRanksAndThreads) {
  const HalfRows rows = balls(700, 24, 5, 3, 9);
  std::vector<Params> settings(3);
  settings[0] = {.min_cluster_size = 12};
  settings[1] = {.min_cluster_size = 10,
                 .metric = Metric::cosine,
                 .sample_rows = 400,
                 .noise = NoisePolicy::nearest_centroid,
                 .seed = 5};
  settings[2] = {.min_cluster_size = 10,
                 .min_samples = 3,
                 .selection = Selection::leaf,
                 .pca_components = 6,
                 .sample_rows = 500,
                 .noise = NoisePolicy::own_cluster};
  for (const Params& params : settings) {
    const Fit alone = fit_over(rows, params);
    EXPECT_GE(alone.model.k(), 2);
    for (const int ranks : {1, 2, 3, 4, 7}) {
      for (const int threads : {1, 2}) {
        SCOPED_TRACE(testing::Message() << ranks << " ranks, " << threads << " threads");
        expect_same_bits(fit_over(rows, params, {ranks, threads, ranks == 3 ? 17 : 100, ranks == 4}), alone);
      }
    }
  }
}

TEST(SymmetricEigen, SolvesWhatItIsGiven) {
  for (const std::int64_t n : {1, 2, 3, 10, 61}) {
    RandomStream random(8, static_cast<std::uint64_t>(n));
    std::vector<double> matrix(static_cast<std::size_t>(n * n));
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j <= i; ++j) {
        // A rank-deficient part and repeated eigenvalues are in it for n = 10.
        matrix[i * n + j] = matrix[j * n + i] = n == 10 ? (i == j ? static_cast<double>(i / 5) : 0.0) : random.normal();
      }
    }
    const SymmetricEigen eigen = symmetric_eigen(matrix, n);
    for (std::int64_t a = 0; a < n; ++a) {
      const double* v = eigen.vectors.data() + a * n;
      EXPECT_LE(eigen.values[a], eigen.values[std::max<std::int64_t>(a - 1, 0)]);
      for (std::int64_t b = 0; b < n; ++b) {
        double dot = 0;
        for (std::int64_t k = 0; k < n; ++k) dot += v[k] * eigen.vectors[b * n + k];
        EXPECT_NEAR(dot, a == b, 1e-12);
      }
      for (std::int64_t i = 0; i < n; ++i) {
        double product = 0;
        for (std::int64_t k = 0; k < n; ++k) product += matrix[i * n + k] * v[k];
        EXPECT_NEAR(product, eigen.values[a] * v[i], 1e-11);
      }
      const double* largest = std::max_element(v, v + n, [](double x, double y) { return std::abs(x) < std::abs(y); });
      EXPECT_GT(*largest, 0);
    }
  }
}

}  // namespace
}  // namespace moextract::cluster::hdbscan
