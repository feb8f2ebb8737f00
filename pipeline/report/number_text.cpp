// Numbers as people read them.
#include "report/number_text.h"

#include <fmt/format.h>

#include <cmath>

namespace moextract {

std::string count_text(Count count) {
  if (!count) return "-";
  std::string digits = std::to_string(*count);
  const std::size_t first = digits.starts_with('-') ? 1 : 0;
  for (std::size_t at = digits.size(); at > first + 3;) {
    at -= 3;
    digits.insert(at, 1, ',');
  }
  return digits;
}

std::string fixed_text(Number value, int decimals) {
  if (!value || !std::isfinite(*value)) return "-";
  std::string text = fmt::format("{:.{}f}", *value, decimals);
  // "-0.0" would read as a loss.
  if (text.starts_with('-') && text.find_first_not_of("-0.") == std::string::npos) text.erase(0, 1);
  return text;
}

std::string percent_text(Number share, int decimals) {
  return share ? fixed_text(*share * 100, decimals) + " %" : "-";
}

std::string times_text(Number factor) {
  if (!factor) return "-";
  return fixed_text(factor, *factor < 10 ? 2 : 1) + "x";
}

std::string rate_text(Number rate) {
  if (!rate || !std::isfinite(*rate) || std::abs(*rate) < 999.95 || std::abs(*rate) > 9e15) return fixed_text(rate, 1);
  return count_text(std::llround(*rate));
}

std::string short_text(Number value) {
  if (!value || !std::isfinite(*value)) return "-";
  const double size = std::abs(*value);
  if (size == 0) return "0";
  if (size >= 1e6 || size < 1e-3) return fmt::format("{:.2e}", *value);
  return fmt::format("{:.4g}", *value);
}

std::string duration_text(Number seconds) {
  if (!seconds || !std::isfinite(*seconds)) return "-";
  if (*seconds < 9.995) return fixed_text(seconds, 2) + " s";
  if (*seconds < 59.95) return fixed_text(seconds, 1) + " s";
  const auto whole = std::llround(*seconds);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  const auto minutes = std::llround(*seconds / 60);
  return fmt::format("{} h {:02} min", minutes / 60, minutes % 60);
}

std::string Unit::text(Number value) const {
  return value ? fixed_text(*value / scale, decimals) : "-";
}

std::string Unit::with_prefix(Number value) const {
  if (!value) return "-";
  return prefix.empty() ? text(value) : text(value) + " " + prefix;
}

Unit unit_for(std::span<const Number> values) {
  double largest = 0;
  for (const Number& value : values) {
    if (value && std::isfinite(*value)) largest = std::max(largest, std::abs(*value));
  }
  Unit unit;
  if (largest >= 1e9) {
    unit = {1e9, "G", 0};
  } else if (largest >= 1e6) {
    unit = {1e6, "M", 0};
  } else if (largest >= 1e4) {
    unit = {1e3, "k", 0};
  } else {
    return unit;
  }
  const double scaled = largest / unit.scale;
  unit.decimals = scaled >= 1000 ? 0 : scaled >= 100 ? 1 : scaled >= 10 ? 2 : 3;
  return unit;
}

Unit unit_for(Number value) {
  return unit_for(std::span(&value, 1));
}

}  // namespace moextract
