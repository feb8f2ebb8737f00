#include "config/number_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>

namespace moextract::config {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/// A decimal number in parts: sign, digits without the point, and the power of ten that the last digit stands for.
struct Decimal {
  bool negative = false;
  std::string digits;
  long exponent = 0;
};

constexpr long kHugeExponent = 1'000'000;

/// [+-] digits [. digits] [e [+-] digits], with single underscores between digits.
std::optional<Decimal> parse_decimal(std::string_view text) {
  Decimal number;
  std::size_t at = 0;
  const auto sign = [&] {
    if (at < text.size() && (text[at] == '-' || text[at] == '+')) return text[at++] == '-';
    return false;
  };
  const auto digits = [&] {
    std::string run;
    while (at < text.size()) {
      if (is_digit(text[at])) {
        run += text[at++];
      } else if (text[at] == '_' && !run.empty() && text[at - 1] != '_' && at + 1 < text.size() &&
                 is_digit(text[at + 1])) {
        ++at;
      } else {
        break;
      }
    }
    return run;
  };
  number.negative = sign();
  number.digits = digits();
  if (at < text.size() && text[at] == '.') {
    ++at;
    const std::string fraction = digits();
    number.digits += fraction;
    number.exponent = -static_cast<long>(fraction.size());
  }
  if (number.digits.empty()) return std::nullopt;
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    const bool negative = sign();
    const std::string power = digits();
    if (power.empty()) return std::nullopt;
    long value = kHugeExponent;
    if (std::from_chars(power.data(), power.data() + power.size(), value).ec != std::errc()) value = kHugeExponent;
    value = std::min(value, kHugeExponent);
    number.exponent += negative ? -value : value;
  }
  if (at != text.size()) return std::nullopt;
  return number;
}

}  // namespace

std::optional<WholeNumber> parse_whole_number(std::string_view text) {
  std::optional<Decimal> number = parse_decimal(text);
  if (!number) return std::nullopt;
  std::string& digits = number->digits;
  digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size()));
  if (digits.empty()) return WholeNumber{};
  while (digits.back() == '0') {
    digits.pop_back();
    ++number->exponent;
  }
  if (number->exponent < 0) return std::nullopt;
  WholeNumber whole;
  if (static_cast<long>(digits.size()) + number->exponent > 38) {
    whole.too_large = true;
    return whole;
  }
  digits.append(static_cast<std::size_t>(number->exponent), '0');
  for (const char digit : digits) whole.value = whole.value * 10 + (digit - '0');
  if (number->negative) whole.value = -whole.value;
  return whole;
}

std::optional<double> parse_number(std::string_view text) {
  if (!parse_decimal(text)) return std::nullopt;
  std::string plain(text);
  std::erase(plain, '_');
  if (plain.front() == '+') plain.erase(0, 1);
  double value = 0;
  const auto [end, error] = std::from_chars(plain.data(), plain.data() + plain.size(), value);
  if (error != std::errc() || end != plain.data() + plain.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

}  // namespace moextract::config
