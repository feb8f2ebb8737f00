// k-means over real MPI ranks: the same bits as one rank alone.
#include <gtest/gtest.h>

#include "cluster/kmeans.h"
#include "cluster_cases.h"

namespace moextract::cluster {
namespace {

comm::Communicator* world = nullptr;

TEST(KMeansRanks, GiveTheBitsOfOneRank) {
  for (const bool spherical : {false, true}) {
    const Rows rows = blobs(1111, 40, 6, 3, 61);
    const KMeansParams params{.k = 8, .max_iterations = 6, .init_sample = 300, .spherical = spherical, .seed = 8};
    const KMeansFit alone = fit_rows(rows, params);
    for (const bool lopsided : {false, true}) {
      const auto first = deal(rows.count, world->size(), lopsided);
      const std::int64_t begin = first[world->rank()], end = first[world->rank() + 1];
      Workers workers(1);
      KMeansFit mine = fit(MemoryRows(rows.part(begin, end - begin), 40, begin, 100), params, *world, workers);
      EXPECT_EQ(mine.labels, std::vector<std::int32_t>(alone.labels.begin() + begin, alone.labels.begin() + end));
      mine.labels = alone.labels;
      expect_same_bits(mine, alone);
    }
  }
}

TEST(KMeansRanks, AgreeOnABadRow) {
  Rows rows = blobs(100, 4, 2, 1, 62);
  rows.bits[99 * 4] = 0x7e00;
  const auto first = deal(rows.count, world->size(), false);
  const std::int64_t begin = first[world->rank()], end = first[world->rank() + 1];
  const std::string message = message_of_error(ExitCode::numerics, [&] {
    Workers workers(1);
    fit(MemoryRows(rows.part(begin, end - begin), 4, begin), {.k = 2}, *world, workers);
  });
  EXPECT_NE(message.find("row 99 "), std::string::npos) << message;
}

}  // namespace
}  // namespace moextract::cluster

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  moextract::comm::MpiSession session(argc, argv);
  const auto world = session.world();
  moextract::cluster::world = world.get();
  return RUN_ALL_TESTS();
}
