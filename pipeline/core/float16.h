// IEEE 754 binary16 as stored in shards: bits in a uint16_t.
#pragma once

#include <cstdint>
#include <span>

namespace moextract {

/// Every finite float16 is an integer times 2^-24: the integer, exactly. For infinities and NaN the result has no
/// meaning; shards hold none (checked when written and when read).
inline std::int64_t float16_to_fixed(std::uint16_t bits) {
  const std::int64_t mantissa = bits & 0x3ff;
  const int exponent = (bits >> 10) & 0x1f;
  const std::int64_t magnitude = exponent == 0 ? mantissa : (mantissa | 0x400) << (exponent - 1);
  return (bits & 0x8000) ? -magnitude : magnitude;
}
inline constexpr double kFloat16FixedUnit = 0x1.0p-24;

inline bool float16_is_finite(std::uint16_t bits) { return (bits & 0x7c00) != 0x7c00; }

/// Rounds to nearest, ties to even; beyond 65504 becomes infinity, as in hardware.
void to_float16(std::span<const float> from, std::span<std::uint16_t> to);
void from_float16(std::span<const std::uint16_t> from, std::span<float> to);

/// Index of the first infinity or NaN, or -1.
std::int64_t first_non_finite(std::span<const std::uint16_t> values);
std::int64_t first_non_finite(std::span<const float> values);

}  // namespace moextract
