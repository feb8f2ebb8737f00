// A shard that the disk has no room for, in a process of its own: a file may have 64 KB there.
#include <sys/resource.h>

#include <csignal>
#include <cstdlib>

#include "shard_fixture.h"
#include "store/versions.h"

namespace moextract::store {
namespace {

/// As the program does it: the version is logged before the first shard is written. The process ends after it, and with
/// it HDF5; its exit code is that of the error, or 99 if a shard is there all the same.
int write_without_room() {
  static_cast<void>(hdf5_version());
  std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{65536, 65536};
  if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 98;
  const TemporaryFolder folder;
  ExampleShard shard;
  shard.info.image_count = 20000;
  shard.images = 9000;
  try {
    shard.write(folder / "shard.h5", 100);
    return 0;
  } catch (const UserError& error) {
    return folder.entries() == 0 ? static_cast<int>(error.code()) : 99;
  }
}

TEST(FullDiskDeathTest, EndsWithItsExitCodeAndNoShard) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // a fresh process, in which HDF5 has not been used yet
  EXPECT_EXIT(std::exit(write_without_room()), testing::ExitedWithCode(static_cast<int>(ExitCode::storage)), "");
}

}  // namespace
}  // namespace moextract::store
