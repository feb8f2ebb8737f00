// What ranks have to have in common, and the table of ranks.
#include "app/environment.h"

#include <gtest/gtest.h>

#include "comm/backends.h"
#include "core/error.h"

namespace moextract::app {
namespace {

TEST(Environment, IsTheSameOnAllRanksAndKnowsEachOfThem) {
  comm::run_threads(3, [](comm::Communicator& comm) {
    const Environment environment = survey_environment(comm, 2);
    ASSERT_EQ(environment.ranks.size(), 3u);
    EXPECT_EQ(environment.hosts(), 1);
    EXPECT_EQ(environment.transport, "threads");
    for (const RankPlace& rank : environment.ranks) {
      EXPECT_FALSE(rank.host.empty());
      EXPECT_FALSE(rank.gpu.empty());
      EXPECT_EQ(rank.threads, 2);
      EXPECT_GT(rank.cores, 0);
      EXPECT_GT(rank.process, 0);
    }
    EXPECT_EQ(environment.table().size(), 4u);
    for (const char* name : {"moextract ", "LibTorch ", "MPI ", "HDF5 ", "NCCL "})
      EXPECT_NE(environment.version_line().find(name), std::string::npos) << environment.version_line();
  });
}

TEST(Environment, OtherVersionsOnARankAreNamedWithBothHosts) {
  const std::vector<RankPlace> ranks{{"node1", 1, 1, 1, ""}, {"node1", 2, 1, 1, ""}, {"node2", 3, 1, 1, ""}};
  const std::string ours = "moextract\t1.0\nHDF5\t1.10.8\n";
  EXPECT_NO_THROW(check_versions({ours, ours, ours}, ranks));
  try {
    check_versions({ours, ours, "moextract\t1.0\nHDF5\t1.14.3\n"}, ranks);
    FAIL() << "nothing was thrown";
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::distributed);
    EXPECT_EQ(
        std::string(error.what()).find("rank 0 on node1 runs with HDF5 1.10.8, but rank 2 on node2 with HDF5 1.14.3"),
        0u)
        << error.what();
  }
}

}  // namespace
}  // namespace moextract::app
