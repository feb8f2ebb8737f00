// What the counts of tokens by expert tell, against numbers worked out by hand.
#include "stages/evaluate/routing_counts.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "small_run.h"

namespace moextract::stages::test {
namespace {

/// A model of 2 x 2 patches and a class token; two routed experts, and one for the class token.
model::VitParams small_vit() {
  model::VitParams vit;
  vit.image_size = 4;
  vit.patch_size = 2;
  return vit;
}

RoutingCounts example() {
  RoutingCounts counts;
  counts.experts = 3;
  counts.routed_experts = 2;
  counts.classes = 4;
  counts.positions = 5;
  // 4 images of classes 0, 0, 1, 2. Expert 0 takes the upper patches, and the lower left one of class 1.
  counts.by_class = {4, 3, 2, 0, 4, 1, 2, 0, 2, 1, 1, 0};
  counts.by_position = {0, 4, 4, 1, 0, 0, 0, 0, 3, 4, 4, 0, 0, 0, 0};
  return counts;
}

TEST(RoutingCounts, TheClassTokensOwnExpertIsNoChoice) {
  const RoutingCounts counts = example();
  EXPECT_EQ(counts.tokens(), (std::vector<std::int64_t>{9, 7, 4}));
  const auto h = [](std::initializer_list<double> parts) {
    double total = 0, sum = 0;
    for (const double p : parts) total += p;
    for (const double p : parts) sum -= p / total * std::log2(p / total);
    return sum;
  };
  EXPECT_NEAR(counts.usage_entropy(), h({9, 7}), 1e-12);
  EXPECT_NEAR(counts.class_information(), h({9, 7}) + h({8, 4, 4}) - h({4, 3, 2, 4, 1, 2}), 1e-12);
  EXPECT_NEAR(counts.position_information(), h({9, 7}) + 2.0 - h({4, 4, 1, 3, 4}), 1e-12);
}

TEST(RoutingCounts, ClassesAreOrderedByWhatTheyTell) {
  const nlohmann::json takes = specialisation(example(), small_vit());
  EXPECT_EQ(takes["grid"], 2);
  ASSERT_EQ(takes["experts"].size(), 2u) << "the class token's own is left out";
  EXPECT_EQ(takes["experts"][0]["positions"], (std::vector<int>{4, 4, 1, 0}));
  EXPECT_EQ(takes["experts"][1]["positions"], (std::vector<int>{0, 0, 3, 4}));
  // Of all routed tokens 8, 4 and 4 are of classes 0, 1 and 2; of expert 0's nine 4, 3 and 2.
  ASSERT_EQ(takes["experts"][0]["classes"].size(), 1u) << takes.dump();
  EXPECT_EQ(takes["experts"][0]["classes"][0]["class"], 1);
  EXPECT_EQ(takes["experts"][0]["classes"][0]["tokens"], 3);
  EXPECT_NEAR(takes["experts"][0]["classes"][0]["lift"].get<double>(), (3.0 / 9) / (4.0 / 16), 1e-12);
  // Expert 1: 4/7 against 1/2 tells 0.110 bits, 2/7 against 1/4 tells 0.055.
  ASSERT_EQ(takes["experts"][1]["classes"].size(), 2u) << takes.dump();
  EXPECT_EQ(takes["experts"][1]["classes"][0]["class"], 0);
  EXPECT_EQ(takes["experts"][1]["classes"][1]["class"], 2);

  RoutingCounts many = example();  // more classes than are told
  many.classes = 16;
  many.by_class.assign(48, 0);
  for (std::size_t c = 0; c < 8; ++c) many.by_class[c] = 1, many.by_class[16 + 8 + c] = 1;
  EXPECT_EQ(specialisation(many, small_vit())["experts"][0]["classes"].size(), 5u);
  EXPECT_EQ(specialisation(many, small_vit())["experts"][1]["classes"][0]["class"], 8);

  RoutingCounts brief = example();  // the class token alone
  brief.positions = 1;
  EXPECT_TRUE(specialisation(brief, small_vit()).is_null());
  EXPECT_TRUE(specialisation(RoutingCounts(), small_vit()).is_null());
}

TEST(RoutingCounts, AFileGivesThemBack) {
  const SmallRun small;
  const auto path = small.file("routing.safetensors");
  std::vector<RoutingCounts> layers(3);
  layers[1] = example();
  save_routing(path, layers);
  const std::vector<RoutingCounts> read = load_routing(path, {false, true, false});
  ASSERT_EQ(read.size(), 3u);
  EXPECT_EQ(read[0].experts, 0);
  EXPECT_EQ(read[1].by_class, layers[1].by_class);
  EXPECT_EQ(read[1].by_position, layers[1].by_position);
  EXPECT_EQ(read[1].routed_experts, 2);
  EXPECT_EQ(load_routing(path, {false, false, false})[1].routed_experts, 3);
  EXPECT_EQ(load_routing(small.file("absent"), {false})[0].experts, 0);

  layers[1].experts = 1;  // nothing is left beside the class token's own
  layers[1].by_class.resize(4), layers[1].by_position.resize(5);
  save_routing(path, layers);
  try {
    load_routing(path, {false, true, false});
    ADD_FAILURE() << "no error";
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::input);
    EXPECT_NE(std::string(error.what()).find("layer 1"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace moextract::stages::test
