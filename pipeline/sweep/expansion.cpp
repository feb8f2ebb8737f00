// The combinations that a sweep file asks for.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/hash.h"
#include "core/random.h"
#include "sweep/sweep_file.h"

namespace moextract::sweep {
namespace {

constexpr double kMostRuns = 100'000;

std::string draw(const SweepFile& file, const DrawnKey& drawn, std::uint64_t index) {
  RandomStream stream(file.seed, hash64(drawn.key), index);
  if (!drawn.choices.empty()) return drawn.choices[stream.below(drawn.choices.size())];
  // Whole numbers stand for intervals of one around them, so that both ends are as likely as the others.
  const double room = drawn.whole ? 0.5 : 0;
  double low = drawn.low - room, high = drawn.high + room;
  if (drawn.logarithmic) low = std::log(low), high = std::log(high);
  double value = low + (high - low) * stream.uniform();
  if (drawn.logarithmic) value = std::exp(value);
  if (drawn.whole) {
    value = std::clamp(std::round(value), std::ceil(drawn.low), std::floor(drawn.high));
    return fmt::format("{:.0f}", value);
  }
  // Four digits can be read and typed again.
  const std::string text = fmt::format("{:.4g}", std::clamp(value, drawn.low, drawn.high));
  const double rounded = std::stod(text);
  return rounded < drawn.low || rounded > drawn.high ? fmt::format("{}", std::clamp(rounded, drawn.low, drawn.high))
                                                     : text;
}

}  // namespace

std::vector<Settings> expand(const SweepFile& file) {
  std::vector<std::vector<Settings>> factors;
  for (const GridKey& axis : file.grid) {
    std::vector<Settings>& factor = factors.emplace_back();
    for (const std::string& value : axis.values) factor.push_back({{axis.key, value}});
  }
  if (!file.list.empty()) factors.push_back(file.list);
  if (!file.drawn.empty()) {
    std::vector<Settings>& factor = factors.emplace_back();
    for (std::int64_t i = 0; i < file.draws; ++i) {
      Settings& settings = factor.emplace_back();
      for (const DrawnKey& drawn : file.drawn)
        settings.push_back({drawn.key, draw(file, drawn, static_cast<std::uint64_t>(i))});
    }
  }
  double count = 1;
  for (const auto& factor : factors) count *= static_cast<double>(factor.size());
  if (count > kMostRuns) {
    fail(ExitCode::config,
         "{}: {:.0f} combinations, more than the {:.0f} that a sweep may have; shorten a list or draw at random",
         file.file.string(), count, kMostRuns);
  }
  // The last factor runs fastest, as nested loops would.
  std::vector<Settings> all{{}};
  for (const auto& factor : factors) {
    std::vector<Settings> longer;
    longer.reserve(all.size() * factor.size());
    for (const Settings& begun : all) {
      for (const Settings& more : factor) {
        Settings& settings = longer.emplace_back(begun);
        settings.insert(settings.end(), more.begin(), more.end());
      }
    }
    all = std::move(longer);
  }
  return all;
}

}  // namespace moextract::sweep
