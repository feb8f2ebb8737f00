// What only the MPI back end has: its own errors, its thread, lengths beyond 2^31, and the launcher's count.
#include <gtest/gtest.h>

#include <cstdlib>
#include <thread>

#include "comm/backends.h"
#include "tests/pipeline/comm/mpi_world.h"

namespace moextract::comm {
namespace {

TEST(Mpi, LauncherCountAgrees) {
  EXPECT_TRUE(launched_by_mpi());
  EXPECT_EQ(launched_tasks(), world().size());
  EXPECT_NO_THROW(check_launch(world()));
}

TEST(Mpi, CollectiveFromAnotherThreadIsABug) {
  std::thread([] { EXPECT_THROW(world().barrier(), BugError); }).join();
  EXPECT_NO_THROW(world().barrier());
}

TEST(Mpi, ErrorOfTheLibraryIsAUserErrorWithItsText) {
  if (world().size() == 1) GTEST_SKIP() << "needs a rank to receive";
  // A message longer than the buffer is the one error that can be made without losing a rank: the last rank receives
  // it, on a communicator that is used for nothing else afterwards. It is a leaf of any tree, so the others pass.
  const std::unique_ptr<Communicator> scrap = world().split_by_node();
  const bool last = scrap->rank() == scrap->size() - 1;
  std::vector<char> data(last ? 4 : 8);
  try {
    scrap->broadcast(std::span<char>(data));
    EXPECT_FALSE(last) << "nothing was thrown";
  } catch (const UserError& error) {
    EXPECT_TRUE(last) << error.what();
    EXPECT_EQ(error.code(), ExitCode::distributed);
    const std::string text = error.what();
    EXPECT_NE(text.find(fmt::format("MPI_Bcast failed on rank {}: MPI_ERR_TRUNCATE", scrap->rank())), std::string::npos)
        << text;
  }
  world().barrier();
}

TEST(Mpi, BeyondTwoToThe31) {
  if (std::getenv("MOEXTRACT_TEST_HUGE") == nullptr)
    GTEST_SKIP() << "needs 7 GB a rank and minutes: set MOEXTRACT_TEST_HUGE=1 MOEXTRACT_TEST_DEADLINE=600";
  const std::size_t length = (std::size_t{1} << 31) + 12345;
  const auto byte_at = [](std::size_t i) { return static_cast<char>(i * 7 + (i >> 20)); };
  std::vector<char> data(length);
  if (world().is_root()) {
    for (std::size_t i = 0; i < length; ++i) data[i] = byte_at(i);
  }
  world().broadcast(std::span<char>(data));
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < length; ++i) wrong += data[i] != byte_at(i);
  EXPECT_EQ(wrong, 0u);

  // Displacements beyond 2^31: rank 0 brings nearly all, the others a little each.
  data.resize(world().is_root() ? length : 3);
  const std::vector<char> all = world().all_gather(std::span<const char>(data));
  ASSERT_EQ(all.size(), length + 3 * static_cast<std::size_t>(world().size() - 1));
  for (std::size_t i = 0; i < all.size(); ++i) {
    wrong += all[i] != byte_at(i < length ? i : (i - length) % 3);
  }
  EXPECT_EQ(wrong, 0u);
}

}  // namespace
}  // namespace moextract::comm
