// Clusters rows in memory with both methods, on as many ranks as it is started on, and gives other rows their clusters.
#include <cstdint>
#include <cstdio>
#include <exception>
#include <vector>

#include "cluster/hdbscan.h"
#include "cluster/kmeans.h"
#include "cluster/memory_rows.h"
#include "comm/backends.h"
#include "core/float16.h"
#include "core/random.h"
#include "core/workers.h"

namespace {

using namespace moextract;

constexpr std::int64_t kDimension = 8;

/// Rows first .. last - 1 of a set; row i lies near point i % 3.
cluster::MemoryRows make_rows(std::int64_t first, std::int64_t last) {
  std::vector<float> values;
  for (std::int64_t i = first; i < last; ++i) {
    RandomStream random(7, static_cast<std::uint64_t>(i));
    for (std::int64_t j = 0; j < kDimension; ++j)
      values.push_back(static_cast<float>(random.normal() + (j % 3 == i % 3 ? 20 : 0)));
  }
  std::vector<std::uint16_t> bits(values.size());
  to_float16(values, bits);
  return {std::move(bits), kDimension, first};
}

/// Whether every third row has the same label, and neighbours different ones.
bool in_three(const std::vector<std::int32_t>& labels) {
  for (std::size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] != labels[i % 3]) return false;
  }
  return labels.size() >= 3 && labels[0] != labels[1] && labels[1] != labels[2] && labels[0] != labels[2];
}

int run(comm::Communicator& comm) {
  constexpr std::int64_t kRows = 3000;
  const std::int64_t first = kRows * comm.rank() / comm.size(), last = kRows * (comm.rank() + 1) / comm.size();
  const cluster::MemoryRows rows = make_rows(first, last), others = make_rows(kRows, kRows + 60);
  Workers workers(2);

  const cluster::KMeansFit kmeans = cluster::fit(rows, {.k = 3, .seed = 1}, comm, workers);
  const bool kmeans_good = kmeans.model.sizes == std::vector<std::int64_t>(3, 1000) && in_three(kmeans.labels) &&
                           cluster::predict(kmeans.model, rows, false, workers) == kmeans.labels &&
                           in_three(cluster::predict(kmeans.model, others, false, workers));

  const cluster::hdbscan::Params params{
      .min_cluster_size = 50, .sample_rows = 900, .noise = cluster::hdbscan::NoisePolicy::nearest_centroid};
  const cluster::hdbscan::Fit density = cluster::hdbscan::fit(rows, params, comm, workers);
  const bool density_good = density.model.k() == 3 && in_three(density.rows.labels) &&
                            in_three(cluster::hdbscan::predict(density.model, others, workers).labels);
  std::printf("rank %d of %d: k-means %s (inertia %.17g), HDBSCAN %s\n", comm.rank(), comm.size(),
              kmeans_good ? "good" : "BAD", kmeans.model.inertia, density_good ? "good" : "BAD");
  return kmeans_good && density_good ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (!comm::launched_by_mpi()) return run(*comm::make_self());
    comm::MpiSession session(argc, argv);
    return run(*session.world());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
