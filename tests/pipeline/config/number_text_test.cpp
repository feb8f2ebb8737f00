#include "config/number_text.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>

namespace moextract::config {
namespace {

TEST(WholeNumber, IsExact) {
  const auto value = [](const char* text) { return static_cast<std::int64_t>(parse_whole_number(text).value().value); };
  EXPECT_EQ(value("0"), 0);
  EXPECT_EQ(value("-0"), 0);
  EXPECT_EQ(value("+7"), 7);
  EXPECT_EQ(value("010"), 10);
  EXPECT_EQ(value("1e5"), 100000);
  EXPECT_EQ(value("1.5e3"), 1500);
  EXPECT_EQ(value("2.0"), 2);
  EXPECT_EQ(value("1200e-2"), 12);
  EXPECT_EQ(value("0e-99999999999999999999"), 0);
  EXPECT_EQ(value("100_000"), 100000);
  // 2^53 + 1 is what a detour over double would lose.
  EXPECT_EQ(value("9007199254740993"), 9007199254740993);
  EXPECT_EQ(value("-9223372036854775808"), std::numeric_limits<std::int64_t>::min());
  EXPECT_TRUE(parse_whole_number("18446744073709551615")->value == std::numeric_limits<std::uint64_t>::max());
}

TEST(WholeNumber, RefusesWhatIsNotWhole) {
  for (const char* text : {"",  "-",    "1.5", "15e-1", "1e-5", "abc", "1a",    "0x10", "1e",   "e5",
                           ".", "1__0", "_1",  "1_",    "1 2",  "--1", "1e1.5", "1,5",  ".inf", "nan"}) {
    EXPECT_FALSE(parse_whole_number(text)) << text;
  }
}

TEST(WholeNumber, TooLarge) {
  EXPECT_TRUE(parse_whole_number("1e38")->too_large);
  EXPECT_TRUE(parse_whole_number("-1e99999999999999999999")->too_large);
  EXPECT_FALSE(parse_whole_number("99999999999999999999999999999999999999")->too_large);
}

TEST(Number, ReadsDecimals) {
  EXPECT_EQ(parse_number("0.1"), 0.1);
  EXPECT_EQ(parse_number("+.5"), 0.5);
  EXPECT_EQ(parse_number("-5."), -5.0);
  EXPECT_EQ(parse_number("1e-05"), 1e-5);
  EXPECT_EQ(parse_number("1_000.5"), 1000.5);
  EXPECT_EQ(parse_number("1.7976931348623157e308"), std::numeric_limits<double>::max());
}

TEST(Number, RefusesTheRest) {
  for (const char* text : {"", "x", "1x", ".inf", "inf", "nan", ".nan", "0x1p3", "1e999", "1,5", "."}) {
    EXPECT_FALSE(parse_number(text)) << text;
  }
}

}  // namespace
}  // namespace moextract::config
