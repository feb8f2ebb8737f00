#include "report/svg_tree.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "report/number_text.h"
#include "report/svg_canvas.h"

namespace moextract {
namespace {

constexpr double kWidth = 220, kHeight = 128;

/// Densities from the first split to the last death.
struct Densities {
  explicit Densities(const std::vector<TreeNode>& tree) {
    bool any = false;
    for (const TreeNode& node : tree) {
      for (const Number& value : {node.parent ? node.birth : Number(), node.death}) {
        if (!value) continue;
        low = any ? std::min(low, *value) : *value;
        high = any ? std::max(high, *value) : *value;
        any = true;
      }
    }
    if (!any) high = 1;
    // The root's box keeps some height above the first split.
    low = std::max(0.0, low - 0.15 * (high - low));
    if (high <= low) high = low + 1;
  }
  double share(double value) const { return std::clamp((value - low) / (high - low), 0.0, 1.0); }
  double low = 0, high = 0;
};

}  // namespace

std::string draw_condensed_tree(const Clustering& clustering) {
  SvgCanvas svg(kWidth, kHeight,
                fmt::format("Layer {}: condensed tree of {} clusters, {} of them chosen", count_text(clustering.layer),
                            clustering.tree.size(), count_text(clustering.clusters_found)),
                "panel");
  const Box plot{2, 6, kWidth - 4, kHeight - 12};
  const Densities densities(clustering.tree);
  std::map<std::int64_t, Box> places;    // of drawn clusters: x and width; y is where the next child begins
  std::map<std::int64_t, double> taken;  // width that a cluster's children have taken
  double root_size = 1;
  for (const TreeNode& node : clustering.tree) {
    if (!node.parent && node.size) root_size = std::max(1.0, static_cast<double>(*node.size));
  }
  // Parents stand before their children.
  for (const TreeNode& node : clustering.tree) {
    if (!node.id || !node.size) continue;
    Box box = plot;
    if (node.parent) {
      const auto parent = places.find(*node.parent);
      if (parent == places.end()) continue;
      box.x = parent->second.x + taken[*node.parent];
      box.width = plot.width * static_cast<double>(*node.size) / root_size;
      taken[*node.parent] += box.width;
    }
    places[*node.id] = box;
    const double top = node.parent ? densities.share(node.birth.value_or(densities.high)) : 0;
    const double bottom = densities.share(node.death.value_or(densities.high));
    box.y = plot.y + plot.height * top;
    box.height = std::max(1.0, plot.height * (bottom - top));
    box.width = std::max(0.8, box.width - (box.width > 3 ? 1 : 0));
    const std::string name = node.label ? fmt::format("cluster {}", *node.label) : std::string("not chosen");
    svg.rect(box, node.label ? "s-moee bar" : "ghost",
             fmt::format("{}: {} rows, density {} to {}", name, count_text(node.size), short_text(node.birth),
                         node.death ? short_text(node.death) : "infinity"));
  }
  if (clustering.tree.empty()) svg.text({plot.x, plot.y + 20}, "too few rows for a tree", "tick");
  return svg.finish();
}

}  // namespace moextract
