// HDBSCAN over real MPI ranks: the same bits as one rank alone.
#include <gtest/gtest.h>

#include "hdbscan_cases.h"

namespace moextract::cluster::hdbscan {
namespace {

comm::Communicator* world = nullptr;

TEST(HdbscanRanks, GiveTheBitsOfOneRank) {
  const HalfRows rows = balls(600, 16, 4, 4, 21);
  const Params params{
      .min_cluster_size = 10, .pca_components = 8, .sample_rows = 400, .noise = NoisePolicy::own_cluster};
  const Fit alone = fit_over(rows, params);
  EXPECT_GE(alone.model.k(), 2);
  const std::int64_t n = rows.count(), size = world->size();
  // Rank 0 has few rows; with more than two ranks the last has none.
  const auto first_of = [&](std::int64_t rank) {
    return rank == 0 ? 0 : rank == size ? n : size > 2 && rank == size - 1 ? n : 5 + (n - 5) * (rank - 1) / size;
  };
  const std::int64_t begin = first_of(world->rank()), end = first_of(world->rank() + 1);
  const MemoryRows mine({rows.bits.begin() + begin * 16, rows.bits.begin() + end * 16}, 16, begin, 50);
  Workers workers(1);
  Fit fit = hdbscan::fit(mine, params, *world, workers);
  EXPECT_EQ(fit.rows.labels,
            std::vector<std::int32_t>(alone.rows.labels.begin() + begin, alone.rows.labels.begin() + end));
  fit.rows = alone.rows;
  expect_same_bits(fit, alone);
}

TEST(HdbscanRanks, AgreeOnABadRow) {
  HalfRows rows = balls(100, 4, 2, 5, 22);
  rows.bits[99 * 4] = 0xfc00;
  const std::int64_t begin = 100 * world->rank() / world->size(), end = 100 * (world->rank() + 1) / world->size();
  const std::string message = message_of(ExitCode::numerics, [&] {
    Workers workers(1);
    fit(MemoryRows({rows.bits.begin() + begin * 4, rows.bits.begin() + end * 4}, 4, begin), {}, *world, workers);
  });
  EXPECT_NE(message.find("row 99 "), std::string::npos) << message;
}

}  // namespace
}  // namespace moextract::cluster::hdbscan

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  moextract::comm::MpiSession session(argc, argv);
  const auto world = session.world();
  moextract::cluster::hdbscan::world = world.get();
  return RUN_ALL_TESTS();
}
