// JSON of bounded depth.
#include "core/json_text.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace moextract {
namespace {

std::string nested(int depth) {
  return std::string(depth, '[') + std::string(depth, ']');
}

TEST(ParseJson, GivesWhatTheLibraryGives) {
  const std::string text = R"({"a": [1, 2.5, "x", null, true], "b": {"c": {}}, "d": ""})";
  EXPECT_EQ(parse_json(text), nlohmann::json::parse(text));
  EXPECT_EQ(parse_json("3"), 3);
}

TEST(ParseJson, DiscardsWhatIsNoJson) {
  for (const char* text : {"", "{", "{\"a\": 1,}", "[1] 2", "nul", "\"\xff\""}) {
    EXPECT_TRUE(parse_json(text).is_discarded()) << text;
  }
}

TEST(ParseJson, DiscardsNumbersThatNoIntegerHolds) {
  const std::string digits(64, '6');
  for (const std::string& text :
       {"{\"a\":" + digits + "}", "[-" + digits + "]", std::string("[1e19]"), std::string("9.3e18")})
    EXPECT_TRUE(parse_json(text).is_discarded()) << text;
  EXPECT_EQ(parse_json("[18446744073709551615, -9223372036854775808, 9.2e18, 0.5]").size(), 4u);
}

TEST(ParseJson, DiscardsWhatIsNestedTooDeeply) {
  EXPECT_FALSE(parse_json(nested(64)).is_discarded());
  EXPECT_TRUE(parse_json(nested(66)).is_discarded());
  EXPECT_TRUE(parse_json(nested(1'000'000)).is_discarded());
  EXPECT_TRUE(parse_json("{\"a\":" + nested(100) + ", \"b\": 1}").is_discarded());
}

}  // namespace
}  // namespace moextract
