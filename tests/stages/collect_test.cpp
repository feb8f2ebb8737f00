// The choice of tokens, and shards that an interrupted run left.
#include "stages/collect/collect.h"

#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "tests/stages/small_run.h"

namespace moextract::stages::test {
namespace {

TEST(ChooseTokens, DependsOnSeedAndNameAlone) {
  const model::VitParams vit;
  const CollectParams params;
  EXPECT_EQ(choose_tokens(params, vit, "a.jpg"), choose_tokens(params, vit, "a.jpg"));
  EXPECT_NE(choose_tokens(params, vit, "a.jpg"), choose_tokens(params, vit, "b.jpg"));
  CollectParams other = params;
  other.seed = 2;
  EXPECT_NE(choose_tokens(params, vit, "a.jpg"), choose_tokens(other, vit, "a.jpg"));
}

TEST(ChooseTokens, AreDifferentAscendingAndInRange) {
  const model::VitParams vit;
  CollectParams params;
  for (const ClassToken mode : {ClassToken::sampled, ClassToken::always, ClassToken::never}) {
    params.class_token = mode;
    std::set<std::int32_t> seen;
    for (int i = 0; i < 400; ++i) {
      const std::vector<std::int32_t> tokens = choose_tokens(params, vit, std::to_string(i));
      EXPECT_EQ(tokens.size(), mode == ClassToken::always ? 17u : 16u);
      EXPECT_TRUE(std::adjacent_find(tokens.begin(), tokens.end(), std::greater_equal<>()) == tokens.end());
      EXPECT_GE(tokens.front(), mode == ClassToken::never ? 1 : 0);
      EXPECT_LT(tokens.back(), 197);
      if (mode == ClassToken::always) {
        EXPECT_EQ(tokens.front(), 0);
      }
      seen.insert(tokens.begin(), tokens.end());
    }
    EXPECT_GE(seen.size(), 196u) << "every position is drawn sooner or later";
  }
  params.tokens_per_image = 0;
  params.class_token = ClassToken::sampled;
  EXPECT_EQ(choose_tokens(params, vit, "x").size(), 197u);
}

TEST(Collect, KeepsFinishedShardsAndMakesBrokenOnesAgain) {
  const SmallRun small;
  const RunConfig config = small.config({});
  const auto whole = content(run_stages(config, 1, 1, {"collect"}).at("collect"));
  ASSERT_EQ(whole.size(), 4u);  // 60 pictures in shards of 16
  const std::filesystem::path folder = Pipeline(config).graph().folder("collect");
  std::filesystem::remove(folder / "DONE");
  std::filesystem::remove(folder / "shard-000000.h5");
  std::filesystem::resize_file(folder / "shard-000002.h5", 1000);
  std::ofstream(folder / "shard-000003.h5") << "something else";
  const auto kept = std::filesystem::last_write_time(folder / "shard-000001.h5");
  run_stages(config, 2, 1, {"collect"});
  EXPECT_EQ(content(folder), whole);
  EXPECT_EQ(std::filesystem::last_write_time(folder / "shard-000001.h5"), kept);
}

}  // namespace
}  // namespace moextract::stages::test
