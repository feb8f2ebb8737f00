// Sums to twice the precision of double, in a fixed order, so that they are the same everywhere.
#pragma once

#include <cmath>

namespace moextract::cluster {

/// high + low, |low| at most half a unit in the last place of high. (Dekker 1971, Knuth.)
struct DoubleDouble {
  double high = 0, low = 0;

  static DoubleDouble of(__int128 value) {
    const auto high = static_cast<double>(value);
    return {high, static_cast<double>(value - static_cast<__int128>(high))};
  }
  DoubleDouble operator+(const DoubleDouble& other) const {
    const DoubleDouble sum = two_sum(high, other.high), rest = two_sum(low, other.low);
    const DoubleDouble once = quick_sum(sum.high, sum.low + rest.high);
    return quick_sum(once.high, once.low + rest.low);
  }
  DoubleDouble operator-(const DoubleDouble& other) const { return *this + DoubleDouble{-other.high, -other.low}; }
  DoubleDouble operator*(double factor) const {
    const double product = high * factor;
    const double error = std::fma(high, factor, -product);
    return quick_sum(product, std::fma(low, factor, error));
  }
  double value() const { return high + low; }

 private:
  static DoubleDouble two_sum(double a, double b) {
    const double sum = a + b, part = sum - a;
    return {sum, (a - (sum - part)) + (b - part)};
  }
  static DoubleDouble quick_sum(double a, double b) {
    const double sum = a + b;
    return {sum, b - (sum - a)};
  }
};

}  // namespace moextract::cluster
