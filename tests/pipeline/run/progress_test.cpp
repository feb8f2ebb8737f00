// Texts about time and progress.
#include "run/progress.h"

#include "comm/watched.h"
#include "fixture.h"

namespace moextract::run {
namespace {

TEST(Duration, Reads) {
  EXPECT_EQ(duration_text(0), "0.0 s");
  EXPECT_EQ(duration_text(12.34), "12.3 s");
  EXPECT_EQ(duration_text(200), "3 min 20 s");
  EXPECT_EQ(duration_text(60), "1 min 00 s");
  EXPECT_EQ(duration_text(3720), "1 h 02 min");
  EXPECT_EQ(duration_text(3600 * 100), "100 h 00 min");
}

TEST_F(RunTest, ProgressIsASignOfLifeEvenWhenSilent) {
  const std::int64_t before = comm::noted_progress();
  Progress progress(nullptr, "collect", 10, "images");
  progress.add(3);
  progress.add(3);
  EXPECT_EQ(comm::noted_progress(), before + 2);
}

TEST_F(RunTest, ProgressDoesNotFloodALog) {
  const auto logger = log();
  Progress progress(logger, "collect", 1000, "images");
  for (int i = 0; i < 1000; ++i) progress.add(1);
  EXPECT_EQ(said_.str(), "") << "less than a heartbeat has passed";
}

}  // namespace
}  // namespace moextract::run
