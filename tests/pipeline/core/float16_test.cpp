// float16 against arithmetic from its definition: all 65536 values, both ways, in vectors and in tails.
#include "core/float16.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "core/error.h"
#include "core/random.h"

namespace moextract {
namespace {

/// Value of finite bits by the definition in IEEE 754.
double value_of(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 0x1f, mantissa = bits & 0x3ff;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1.0 + mantissa / 1024.0, exponent - 15);
  return (bits & 0x8000) ? -magnitude : magnitude;
}

/// Positive finite float16 values, ascending; index = bits.
const std::vector<double>& positive_values() {
  static const std::vector<double> values = [] {
    std::vector<double> all;
    for (int bits = 0; bits < 0x7c00; ++bits) all.push_back(value_of(static_cast<std::uint16_t>(bits)));
    return all;
  }();
  return values;
}

/// Nearest by search among all values, ties to the even one.
std::uint16_t nearest(float value) {
  const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::fabs(static_cast<double>(value));
  const std::vector<double>& all = positive_values();
  if (magnitude >= 65520.0) return sign | 0x7c00;  // half way to the value that would follow 65504
  if (magnitude >= 65504.0) return sign | 0x7bff;
  const auto above = std::upper_bound(all.begin(), all.end(), magnitude);
  const auto high = static_cast<std::uint16_t>(above - all.begin());
  const auto low = static_cast<std::uint16_t>(high - 1);
  const double down = magnitude - all[low], up = all[high] - magnitude;
  if (down != up) return static_cast<std::uint16_t>(sign | (down < up ? low : high));
  return static_cast<std::uint16_t>(sign | (low % 2 == 0 ? low : high));
}

/// In spans of 16 the processor's conversion works if there is one, in single elements the portable one.
std::vector<std::uint16_t> narrow(const std::vector<float>& from, std::size_t piece) {
  std::vector<std::uint16_t> to(from.size());
  for (std::size_t i = 0; i < from.size(); i += piece) {
    const std::size_t n = std::min(piece, from.size() - i);
    to_float16(std::span(from).subspan(i, n), std::span(to).subspan(i, n));
  }
  return to;
}
std::vector<float> widen(const std::vector<std::uint16_t>& from, std::size_t piece) {
  std::vector<float> to(from.size());
  for (std::size_t i = 0; i < from.size(); i += piece) {
    const std::size_t n = std::min(piece, from.size() - i);
    from_float16(std::span(from).subspan(i, n), std::span(to).subspan(i, n));
  }
  return to;
}

class Float16 : public testing::TestWithParam<std::size_t> {};
INSTANTIATE_TEST_SUITE_P(Pieces, Float16, testing::Values(1, 16, 1000));

TEST_P(Float16, EveryValueWidensExactlyAndComesBack) {
  std::vector<std::uint16_t> all(65536);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  const std::vector<float> wide = widen(all, GetParam());
  const std::vector<std::uint16_t> back = narrow(wide, GetParam());
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::uint16_t bits = all[i];
    if (float16_is_finite(bits)) {
      ASSERT_EQ(static_cast<double>(wide[i]), value_of(bits)) << bits;
      ASSERT_EQ(std::signbit(wide[i]), (bits & 0x8000) != 0) << bits;
      ASSERT_EQ(static_cast<double>(float16_to_fixed(bits)) * kFloat16FixedUnit, value_of(bits)) << bits;
      ASSERT_EQ(back[i], bits);
    } else if ((bits & 0x3ff) == 0) {
      ASSERT_TRUE(std::isinf(wide[i])) << bits;
      ASSERT_EQ(back[i], bits);
    } else {
      ASSERT_TRUE(std::isnan(wide[i])) << bits;
      ASSERT_FALSE(float16_is_finite(back[i])) << bits;
    }
  }
}

TEST_P(Float16, RoundsToTheNearestEvenAtEveryBorder) {
  // For each pair of neighbours: half way between them, and one float step to either side.
  const std::vector<double>& values = positive_values();
  std::vector<float> from;
  for (std::size_t i = 0; i + 1 < values.size(); ++i) {
    const auto middle = static_cast<float>((values[i] + values[i + 1]) / 2);
    ASSERT_EQ(static_cast<double>(middle), (values[i] + values[i + 1]) / 2);
    for (const float value : {middle, std::nextafterf(middle, 0.0f), std::nextafterf(middle, 1e9f)}) {
      from.push_back(value);
      from.push_back(-value);
    }
  }
  for (const float value : {65504.0f, 65519.996f, 65520.0f, 65536.0f, 1e30f}) from.push_back(value);
  from.push_back(std::numeric_limits<float>::denorm_min());
  from.push_back(std::numeric_limits<float>::infinity());
  const std::vector<std::uint16_t> to = narrow(from, GetParam());
  for (std::size_t i = 0; i < from.size(); ++i) ASSERT_EQ(to[i], nearest(from[i])) << from[i];
}

TEST_P(Float16, RoundsRandomFloatsToTheNearest) {
  RandomStream random(1, 2);
  std::vector<float> from;
  while (from.size() < 200000) {
    const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(random.next()));
    if (!std::isnan(value)) from.push_back(value);
    from.push_back(static_cast<float>(random.normal()));
  }
  const std::vector<std::uint16_t> to = narrow(from, GetParam());
  for (std::size_t i = 0; i < from.size(); ++i) ASSERT_EQ(to[i], nearest(from[i])) << from[i];
}

TEST(Float16Span, LengthsMustAgree) {
  const std::vector<float> from(3);
  std::vector<std::uint16_t> to(2);
  EXPECT_THROW(to_float16(from, to), BugError);
  std::vector<float> back(3);
  EXPECT_THROW(from_float16(to, back), BugError);
}

TEST(FirstNonFinite, FindsTheFirst) {
  std::vector<std::uint16_t> half(100, 0x7bff);
  EXPECT_EQ(first_non_finite(half), -1);
  EXPECT_EQ(first_non_finite(std::span<const std::uint16_t>()), -1);
  half[70] = 0x7c00;
  half[71] = 0x7e00;
  EXPECT_EQ(first_non_finite(half), 70);
  std::vector<float> wide(100, std::numeric_limits<float>::max());
  EXPECT_EQ(first_non_finite(wide), -1);
  wide[99] = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(first_non_finite(wide), 99);
  wide[3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(first_non_finite(wide), 3);
}

}  // namespace
}  // namespace moextract
