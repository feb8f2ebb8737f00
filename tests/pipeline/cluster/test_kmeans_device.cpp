// k-means whose statistics are reduced by NCCL, over its double: counts and sums are integers, so that NCCL's order of
// adding changes nothing.
#include <gtest/gtest.h>

#include "cluster/kmeans.h"
#include "cluster_cases.h"
#include "tests/pipeline/comm/nccl_double.h"
#include "tests/pipeline/comm/nccl_staged.h"

namespace moextract::cluster {
namespace {

TEST(KMeansOverNccl, GivesTheBitsOfOneRank) {
  const Rows rows = blobs(700, 24, 5, 3, 63);
  const KMeansParams params{.k = 6, .max_iterations = 5, .init_sample = 200, .seed = 9};
  const KMeansFit alone = fit_rows(rows, params);
  for (const int ranks : {1, 2, 3, 4}) {
    nccl_double::reset();
    const auto first = deal(rows.count, ranks, true);
    std::vector<KMeansFit> fits(static_cast<std::size_t>(ranks));
    comm::run_threads(ranks, [&](comm::Communicator& host) {
      const auto devices = comm::make_nccl_staged(host);
      const auto r = static_cast<std::size_t>(host.rank());
      const MemoryRows mine(rows.part(first[r], first[r + 1] - first[r]), rows.dimension, first[r], 100);
      Workers workers(1);
      fits[r] = fit(mine, params, *devices, workers);
    });
    EXPECT_GE(nccl_double::calls("ncclAllReduce", 0), 5) << "one of each iteration at least";
    EXPECT_EQ(nccl_double::misuse(), std::vector<std::string>());
    KMeansFit whole = fits[0];
    whole.labels.clear();
    for (const KMeansFit& part : fits) whole.labels.insert(whole.labels.end(), part.labels.begin(), part.labels.end());
    expect_same_bits(whole, alone);
  }
}

}  // namespace
}  // namespace moextract::cluster
