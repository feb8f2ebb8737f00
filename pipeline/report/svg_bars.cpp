// Bars: token shares, expert sizes, kept neurons, time per stage.
#include "report/svg_bars.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "report/number_text.h"
#include "report/svg_canvas.h"

namespace moextract {
namespace {

constexpr double kFont = 12;

double share_of(Count part, Count whole) {
  return std::clamp(ratio(as_number(part), as_number(whole)).value_or(0), 0.0, 1.0);
}

/// Most used first; an unknown share counts as none.
std::vector<std::size_t> by_share(const std::vector<Number>& shares) {
  std::vector<std::size_t> order(shares.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return shares[a].value_or(0) > shares[b].value_or(0); });
  return order;
}

double sum_of(const std::vector<Number>& shares) {
  double sum = 0;
  for (const Number& share : shares) sum += std::max(0.0, share.value_or(0));
  return sum;
}

}  // namespace

Number effective_experts(const std::vector<Number>& shares) {
  const double sum = sum_of(shares);
  if (!(sum > 0)) return {};
  double entropy = 0;
  for (const Number& share : shares) {
    const double p = std::max(0.0, share.value_or(0)) / sum;
    if (p > 0) entropy -= p * std::log(p);
  }
  return std::exp(entropy);
}

std::string draw_token_shares(const std::vector<Layer>& layers) {
  const double width = 920, row = 26, left = 66, right = 104, top = 22;
  const double bar = width - left - right;
  SvgCanvas svg(width, top + row * static_cast<double>(layers.size()) + 4,
                "Share of tokens that each expert receives, one row a layer", "chart wide");
  svg.text({width, 13}, "effective experts", "tick", "end");
  svg.text({left, 13}, "share of tokens, most used expert first", "tick");
  double y = top;
  for (const Layer& layer : layers) {
    svg.text({left - 10, y + 15}, "layer " + count_text(layer.layer), "label", "end");
    const double sum = sum_of(layer.token_share);
    if (!(sum > 0)) {
      svg.rect({left, y, bar, row - 6}, "ghost");
      svg.text({left + 8, y + 14.5}, layer.kind.empty() ? "no shares recorded" : layer.kind, "tick");
      svg.text({width, y + 15}, "-", "label num", "end");
      y += row;
      continue;
    }
    const std::vector<std::size_t> order = by_share(layer.token_share);
    double x = left;
    for (std::size_t rank = 0; rank < order.size(); ++rank) {
      const double share = std::max(0.0, layer.token_share[order[rank]].value_or(0)) / sum;
      const double opacity =
          order.size() < 2 ? 1 : 1 - 0.78 * static_cast<double>(rank) / static_cast<double>(order.size() - 1);
      const double segment = share * bar;
      // The gap between neighbours is part of the segment, so that the row's length stays the sum.
      const double gap = segment > 3 ? 1 : 0;
      svg.rect(
          {x, y, segment - gap, row - 6}, "s-moee bar",
          fmt::format("layer {}, expert {}: {} of tokens", count_text(layer.layer), order[rank], percent_text(share)),
          opacity);
      const std::string name = std::to_string(order[rank]);
      if (segment > text_width(name, 11) + 6) {
        svg.text({x + segment / 2, y + 14}, name, opacity > 0.68 ? "inside on-bar" : "inside", "middle");
      }
      x += segment;
    }
    svg.text({width, y + 15},
             fmt::format("{} of {}", fixed_text(effective_experts(layer.token_share), 1), layer.token_share.size()),
             "label num", "end");
    y += row;
  }
  return svg.finish();
}

std::string draw_expert_sizes(const Layer& layer) {
  const double width = 220, height = 128;
  const Box plot{34, 24, width - 34 - 6, height - 24 - 10};
  const bool experts = !layer.sizes.empty() && layer.hidden.value_or(0) > 0;
  std::string name = "Layer " + count_text(layer.layer);
  if (experts) {
    name += fmt::format(", k = {}", layer.k ? *layer.k : static_cast<std::int64_t>(layer.sizes.size()));
  } else {
    name += ", " + (layer.kind.empty() ? std::string("no sizes recorded") : layer.kind);
  }
  SvgCanvas svg(width, height,
                fmt::format("{}: neurons of each expert, union {}, hidden {}, active share {}", name,
                            count_text(layer.union_size), count_text(layer.hidden), percent_text(layer.active_share)),
                "panel");
  svg.text({0, 13}, fit_text(name, kFont, width), "label strong");
  svg.text({plot.x - 6, plot.y + 8}, count_text(layer.hidden), "tick", "end");
  svg.text({plot.x - 6, plot.bottom()}, "0", "tick", "end");
  svg.rect(plot, "ghost");
  svg.line({plot.x, plot.bottom()}, {plot.right(), plot.bottom()}, "axis");
  if (experts) {
    const double column = plot.width / static_cast<double>(layer.sizes.size());
    for (std::size_t c = 0; c < layer.sizes.size(); ++c) {
      const double h = plot.height * share_of(layer.sizes[c], layer.hidden);
      const double w = std::min(column * 0.8, 40.0);
      svg.rect({plot.x + column * (static_cast<double>(c) + 0.5) - w / 2, plot.bottom() - h, w, h}, "s-moee bar",
               fmt::format("expert {}: {} of {} neurons", c, count_text(layer.sizes[c]), count_text(layer.hidden)));
    }
  } else if (layer.kind == "dense") {
    svg.rect(plot, "s-dense bar", "dense: all neurons", 0.2);
  }
  if (layer.union_size && layer.hidden.value_or(0) > 0 && layer.kind != "dense") {
    const double y = plot.bottom() - plot.height * share_of(layer.union_size, layer.hidden);
    svg.line({plot.x, y}, {plot.right(), y}, "union");
  }
  if (layer.active_share && layer.kind != "dense") {
    const double y = plot.bottom() - plot.height * std::clamp(*layer.active_share, 0.0, 1.0);
    svg.line({plot.x, y}, {plot.right(), y}, "active");
  }
  return svg.finish();
}

std::string draw_kept_neurons(const std::vector<VbpLayer>& layers) {
  const double height = 190, left = 46,
               column = std::clamp(860.0 / static_cast<double>(std::max<std::size_t>(1, layers.size())), 26.0, 56.0);
  const double width = left + column * static_cast<double>(layers.size()) + 8;
  const Box plot{left, 24, width - left - 8, height - 24 - 40};
  SvgCanvas svg(width, height, "Hidden neurons that VBP keeps in each layer", "chart natural");
  svg.text({0, 13}, "neurons kept (%)", "axis-title");
  for (const int tick : {0, 50, 100}) {
    const double y = plot.bottom() - plot.height * tick / 100;
    svg.line({plot.x, y}, {plot.right(), y}, "grid");
    svg.text({plot.x - 7, y + 4}, std::to_string(tick), "tick", "end");
  }
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const VbpLayer& layer = layers[i];
    const double x = plot.x + column * (static_cast<double>(i) + 0.5);
    const double w = column * 0.62;
    svg.rect({x - w / 2, plot.y, w, plot.height}, "ghost");
    const Number share = ratio(as_number(layer.kept), as_number(layer.hidden));
    const double h = plot.height * share_of(layer.kept, layer.hidden);
    svg.rect({x - w / 2, plot.bottom() - h, w, h}, "s-vbp bar",
             fmt::format("layer {}: {} of {} neurons kept", count_text(layer.layer), count_text(layer.kept),
                         count_text(layer.hidden)));
    const double y = plot.bottom() - h;
    // Above the column, or inside it where it reaches the top.
    svg.text({x, h > plot.height - 16 ? y + 14 : y - 5}, share ? fixed_text(*share * 100, 0) : "-",
             h > plot.height - 16 ? "inside on-bar" : "inside", "middle");
    svg.text({x, plot.bottom() + 16}, count_text(layer.layer), "tick", "middle");
  }
  svg.text({plot.right(), height - 6}, "layer", "axis-title", "end");
  return svg.finish();
}

std::string draw_times(const std::vector<StageTime>& stages) {
  const double width = 640, row = 28, left = 120, right = 150;
  SvgCanvas svg(width, row * static_cast<double>(stages.size()) + 4, "Wall-clock time of each stage");
  double longest = 0;
  for (const StageTime& stage : stages) longest = std::max(longest, stage.seconds.value_or(0));
  double y = 4;
  for (const StageTime& stage : stages) {
    svg.text({left - 10, y + 15}, fit_text(stage.stage, kFont, left - 14), "label", "end");
    const double w =
        longest > 0 ? std::max(1.0, (width - left - right) * std::max(0.0, stage.seconds.value_or(0)) / longest) : 1;
    svg.rect({left, y, w, row - 8}, stage.reused ? "reused" : "s-moee bar",
             stage.stage + ": " + duration_text(stage.seconds) + (stage.reused ? ", reused from an earlier run" : ""));
    svg.text({left + w + 8, y + 15}, duration_text(stage.seconds) + (stage.reused ? ", reused" : ""), "label num");
    y += row;
  }
  return svg.finish();
}

}  // namespace moextract
