#include "core/float16.h"

#include <bit>
#include <cmath>
#include <cstddef>

#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "core/error.h"

namespace moextract {
namespace {

// Portable forms: used for the tails and where the processor has no conversion of its own.
std::uint16_t round_to_half(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x47800000u) return static_cast<std::uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {  // subnormal half: adding 0.5 leaves round-to-even of value * 2^24 in the low bits
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u));
  }
  const std::uint32_t odd = (magnitude >> 13) & 1u;
  return static_cast<std::uint16_t>(sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13));
}

float widen_half(std::uint16_t half) {
  if (!float16_is_finite(half)) {
    const std::uint32_t bits = ((half & 0x8000u) << 16) | 0x7f800000u | ((half & 0x3ffu) << 13);
    return std::bit_cast<float>(bits);
  }
  const auto value = static_cast<float>(static_cast<double>(float16_to_fixed(half)) * kFloat16FixedUnit);
  return (half & 0x8000u) ? -std::fabs(value) : value;
}

}  // namespace

void to_float16(std::span<const float> from, std::span<std::uint16_t> to) {
  MOEX_ASSERT(from.size() == to.size(), "float16 conversion of spans of different lengths");
  std::size_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= from.size(); i += 8) {
    const __m128i half = _mm256_cvtps_ph(_mm256_loadu_ps(&from[i]), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(&to[i]), half);
  }
#endif
  for (; i < from.size(); ++i) to[i] = round_to_half(from[i]);
}

void from_float16(std::span<const std::uint16_t> from, std::span<float> to) {
  MOEX_ASSERT(from.size() == to.size(), "float16 conversion of spans of different lengths");
  std::size_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= from.size(); i += 8) {
    _mm256_storeu_ps(&to[i], _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(&from[i]))));
  }
#endif
  for (; i < from.size(); ++i) to[i] = widen_half(from[i]);
}

std::int64_t first_non_finite(std::span<const std::uint16_t> values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!float16_is_finite(values[i])) return static_cast<std::int64_t>(i);
  }
  return -1;
}

std::int64_t first_non_finite(std::span<const float> values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) return static_cast<std::int64_t>(i);
  }
  return -1;
}

}  // namespace moextract
