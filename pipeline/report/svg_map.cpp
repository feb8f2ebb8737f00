#include "report/svg_map.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "report/svg_canvas.h"

namespace moextract {
namespace {

constexpr std::int64_t kShades = 5;

/// 0 for nothing, else 1 .. kShades.
std::int64_t shade_of(std::int64_t tokens, std::int64_t most) {
  return static_cast<std::int64_t>((static_cast<double>(tokens) * kShades + static_cast<double>(most) - 1) /
                                   static_cast<double>(most));
}

}  // namespace

std::string draw_position_map(std::span<const std::int64_t> tokens, std::int64_t grid, const std::string& description) {
  MOEX_ASSERT(grid > 0 && static_cast<std::int64_t>(tokens.size()) == grid * grid, "a map of another size");
  const auto side = static_cast<double>(grid);
  SvgCanvas svg(side, side, description, "map");
  svg.rect({0, 0, side, side}, "ghost");
  const std::int64_t most = std::max<std::int64_t>(1, *std::max_element(tokens.begin(), tokens.end()));
  for (std::int64_t shade = 1; shade <= kShades; ++shade) {
    // One path a shade, one bar for cells of a row side by side: a page has hundreds of maps.
    std::string path;
    for (std::int64_t y = 0; y < grid; ++y) {
      for (std::int64_t x = 0, end = 0; x < grid; x = end + 1) {
        for (end = x; end < grid && shade_of(tokens[static_cast<std::size_t>(y * grid + end)], most) == shade;) ++end;
        if (end > x) path += fmt::format("M{} {}h{}v1h-{}z", x, y, end - x, end - x);
      }
    }
    if (!path.empty()) svg.path(path, "s-moee bar", static_cast<double>(shade) / kShades);
  }
  return svg.finish();
}

}  // namespace moextract
