#include <gtest/gtest.h>

#include "config/reader.h"

namespace moextract::config {
namespace {

const std::vector<std::string> kNames = {"seed", "k", "tolerance", "iterations", "learning_rate", "speed"};

TEST(NearestName, FindsTypos) {
  EXPECT_EQ(nearest_name("tolerence", kNames), "tolerance");
  EXPECT_EQ(nearest_name("iteration", kNames), "iterations");
  EXPECT_EQ(nearest_name("learnign_rate", kNames), "learning_rate");
  EXPECT_EQ(nearest_name("learning-rate", kNames), "learning_rate");
  EXPECT_EQ(nearest_name("kk", kNames), "k");
}

TEST(NearestName, IgnoresCapitals) {
  EXPECT_EQ(nearest_name("K", kNames), "k");
  EXPECT_EQ(nearest_name("TOLERANCE", kNames), "tolerance");
}

TEST(NearestName, ExactBeatsNear) {
  EXPECT_EQ(nearest_name("speed", kNames), "speed");
  EXPECT_EQ(nearest_name("sead", kNames), "seed");
}

TEST(NearestName, ASwapIsOneEdit) {
  // "ab" to "ba" is two substitutions, which would be too far for two letters.
  EXPECT_EQ(nearest_name("ab", {"ba"}), "ba");
  EXPECT_EQ(nearest_name("ab", {"cd"}), "");
}

TEST(NearestName, NothingNear) {
  EXPECT_EQ(nearest_name("p", {"k"}), "");
  EXPECT_EQ(nearest_name("storage", kNames), "");
  EXPECT_EQ(nearest_name("", kNames), "");
  EXPECT_EQ(nearest_name("k", {}), "");
}

TEST(NearestName, FirstOfEquals) {
  EXPECT_EQ(nearest_name("bat", {"cat", "hat"}), "cat");
}

}  // namespace
}  // namespace moextract::config
