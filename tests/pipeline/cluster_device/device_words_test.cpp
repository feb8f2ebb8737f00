// The words of a pass in GPU memory go over NCCL, one collective an iteration, and give the bits of one rank.
#include <gtest/gtest.h>

#include "cluster_device/tensor_pass.h"
#include "comm/device_ranks.h"
#include "comm/watched.h"
#include "tests/pipeline/cluster/cluster_cases.h"
#include "tests/pipeline/comm/nccl_double.h"

namespace moextract::cluster {
namespace {

TEST(DeviceWords, TravelOverNcclToTheSameBits) {
  const Rows rows = blobs(700, 24, 5, 3, 92);
  const KMeansParams params{.k = 6, .max_iterations = 5, .init_sample = 200, .seed = 9};
  const KMeansFit alone = fit_rows(rows, params);
  const MakePass passes = make_tensor_passes({.as_device_memory = true});
  for (const int ranks : {1, 2, 3, 4}) {
    nccl_double::reset();
    const auto first = deal(rows.count, ranks, true);
    std::vector<KMeansFit> fits(static_cast<std::size_t>(ranks));
    comm::run_threads(ranks, [&](comm::Communicator& host) {
      const auto devices = comm::make_device_ranks(host, host.rank());
      const auto watched = comm::watch(*devices, nullptr, {});
      const auto r = static_cast<std::size_t>(host.rank());
      const MemoryRows mine(rows.part(first[r], first[r + 1] - first[r]), rows.dimension, first[r], 100);
      Workers workers(1);
      fits[r] = fit(mine, params, *watched, workers, KMeansHooks{.make_pass = passes});
    });
    const auto passes_made = static_cast<int>(alone.model.history.size()) + (alone.model.converged ? 0 : 1);
    EXPECT_GE(nccl_double::calls("ncclAllReduce"), ranks * passes_made - ranks);
    EXPECT_LE(nccl_double::calls("ncclAllReduce"), ranks * (passes_made + 1)) << "one collective a pass";
    EXPECT_EQ(nccl_double::misuse(), std::vector<std::string>());
    EXPECT_EQ(nccl_double::communicators(), 0);
    KMeansFit whole = fits[0];
    whole.labels.clear();
    for (const KMeansFit& part : fits) whole.labels.insert(whole.labels.end(), part.labels.begin(), part.labels.end());
    expect_same_bits(whole, alone);
  }
}

TEST(DeviceWords, GoOverTheHostWhereNoDeviceIsReached) {
  const Rows rows = blobs(200, 6, 3, 1, 93);
  const KMeansParams params{.k = 4, .max_iterations = 5};
  expect_same_bits(fit_rows(rows, params, {.ranks = 3}, make_tensor_passes({.as_device_memory = true})),
                   fit_rows(rows, params));
}

}  // namespace
}  // namespace moextract::cluster
