// Rows, dealings over ranks and comparisons that the clustering tests share.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "cluster/kmeans.h"
#include "cluster/memory_rows.h"
#include "comm/backends.h"
#include "core/float16.h"
#include "core/random.h"
#include "core/workers.h"

namespace moextract::cluster {

struct Rows {
  std::int64_t count = 0, dimension = 0;
  std::vector<std::uint16_t> bits;

  std::vector<float> values() const {
    std::vector<float> all(bits.size());
    from_float16(bits, all);
    return all;
  }
  std::vector<std::uint16_t> part(std::int64_t first, std::int64_t rows) const {
    const auto begin = bits.begin() + first * dimension;
    return {begin, begin + rows * dimension};
  }
};

inline Rows rows_of(const std::vector<float>& values, std::int64_t dimension) {
  Rows rows{static_cast<std::int64_t>(values.size()) / dimension, dimension, {}};
  rows.bits.resize(values.size());
  to_float16(values, rows.bits);
  return rows;
}

/// `blobs` Gaussian balls of standard deviation `spread` around points of standard deviation 3; row i belongs to ball
/// i % blobs.
inline Rows blobs(std::int64_t count, std::int64_t dimension, std::int64_t blobs, double spread, std::uint64_t seed) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < count; ++i) {
    RandomStream centre(seed, 1, static_cast<std::uint64_t>(i % blobs));
    RandomStream noise(seed, 2, static_cast<std::uint64_t>(i));
    for (std::int64_t j = 0; j < dimension; ++j) {
      values.push_back(static_cast<float>(3 * centre.normal() + spread * noise.normal()));
    }
  }
  return rows_of(values, dimension);
}

/// First row of each rank and the end: an even dealing, or (`lopsided`) one in which rank 0 and, from three ranks on,
/// rank 2 have nothing.
inline std::vector<std::int64_t> deal(std::int64_t count, int ranks, bool lopsided) {
  std::vector<std::int64_t> first(static_cast<std::size_t>(ranks) + 1);
  for (int r = 0; r <= ranks; ++r) first[r] = count * r / ranks;
  if (lopsided && ranks > 1) {
    first[1] = 0;
    if (ranks > 2) first[2] = first[3];
  }
  return first;
}

struct Layout {
  int ranks = 1;
  int threads = 1;
  std::int64_t block_rows = 4096;
  bool lopsided = false;
};

/// Fits over ranks that are threads. The model is rank 0's, after checking that every rank has the same; labels are
/// those of all ranks in the order of the rows.
inline KMeansFit fit_rows(const Rows& rows, const KMeansParams& params, const Layout& layout = {},
                          const MakePass& make_pass = {}) {
  const auto first = deal(rows.count, layout.ranks, layout.lopsided);
  std::vector<KMeansFit> fits(static_cast<std::size_t>(layout.ranks));
  comm::run_threads(layout.ranks, [&](comm::Communicator& comm) {
    const auto r = static_cast<std::size_t>(comm.rank());
    const MemoryRows mine(rows.part(first[r], first[r + 1] - first[r]), rows.dimension, first[r], layout.block_rows);
    Workers workers(layout.threads);
    fits[r] = fit(mine, params, comm, workers, KMeansHooks{.make_pass = make_pass});
  });
  KMeansFit whole = fits[0];
  whole.labels.clear();
  for (const KMeansFit& part : fits) {
    EXPECT_EQ(part.model.centroids, whole.model.centroids);
    EXPECT_EQ(part.model.sizes, whole.model.sizes);
    EXPECT_EQ(part.model.inertia, whole.model.inertia);
    whole.labels.insert(whole.labels.end(), part.labels.begin(), part.labels.end());
  }
  return whole;
}

/// Equal to the last bit (float == is bitwise here but for the sign of zero, so compare that too by the bits).
inline void expect_same_bits(const KMeansFit& a, const KMeansFit& b) {
  EXPECT_EQ(a.labels, b.labels);
  ASSERT_EQ(a.model.centroids.size(), b.model.centroids.size());
  EXPECT_EQ(std::memcmp(a.model.centroids.data(), b.model.centroids.data(), a.model.centroids.size() * sizeof(float)),
            0);
  EXPECT_EQ(a.model.sizes, b.model.sizes);
  EXPECT_EQ(a.model.inertia, b.model.inertia);
  EXPECT_EQ(a.model.converged, b.model.converged);
  EXPECT_EQ(a.model.empty_refilled, b.model.empty_refilled);
  ASSERT_EQ(a.model.history.size(), b.model.history.size());
  for (std::size_t i = 0; i < a.model.history.size(); ++i) {
    const KMeansIteration &x = a.model.history[i], &y = b.model.history[i];
    EXPECT_EQ(x.inertia, y.inertia);
    EXPECT_EQ(x.shift, y.shift);
    EXPECT_EQ(x.moved, y.moved);
    EXPECT_EQ(x.smallest, y.smallest);
    EXPECT_EQ(x.largest, y.largest);
  }
}

/// Runs `body`, which must throw a UserError (RemoteFailure included) with `code`; returns its message.
template <class Body>
std::string message_of_error(ExitCode code, Body&& body) {
  try {
    body();
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

}  // namespace moextract::cluster
