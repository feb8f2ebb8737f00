// Random numbers that depend on a key alone, never on who asks or in which order: what makes draws the same on any
// number of ranks and threads. SplitMix64 (Steele, Lea, Flood 2014) over a counter.
#pragma once

#include <cstdint>
#include <vector>

namespace moextract {

/// A stream of random numbers named by (seed, purpose, index). Streams of different names are independent for our ends.
class RandomStream {
 public:
  using result_type = std::uint64_t;

  RandomStream(std::uint64_t seed, std::uint64_t purpose, std::uint64_t index = 0)
      : state_(mix(mix(mix(seed + kGolden) ^ purpose) + kGolden) ^ index) {}

  std::uint64_t next() { return mix(state_ += kGolden); }
  std::uint64_t operator()() { return next(); }
  static constexpr std::uint64_t min() { return 0; }
  static constexpr std::uint64_t max() { return ~std::uint64_t{0}; }
  /// Uniform in [0, 1), 53 bits.
  double uniform() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }
  /// Uniform in 0 .. bound-1; bound > 0. The bias of the multiply-shift is below bound / 2^64.
  std::uint64_t below(std::uint64_t bound) {
    return static_cast<std::uint64_t>((static_cast<unsigned __int128>(next()) * bound) >> 64);
  }
  /// Standard normal by Box-Muller; the same on every platform with a correctly rounded sqrt and libm's log and cos.
  double normal();
  /// `count` different numbers of 0 .. bound-1, ascending; all of them if count >= bound.
  std::vector<std::int64_t> sample(std::int64_t count, std::int64_t bound);
  /// A random permutation of 0 .. count-1 (Fisher-Yates).
  std::vector<std::int64_t> permutation(std::int64_t count);

 private:
  static constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15ull;
  static constexpr std::uint64_t mix(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  std::uint64_t state_;
};

}  // namespace moextract
