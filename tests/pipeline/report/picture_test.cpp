// The pictures: axes, labels that do not cover each other, bars, curves.
#include <gtest/gtest.h>

#include <cmath>

#include "html_checker.h"
#include "report/svg_bars.h"
#include "report/svg_canvas.h"
#include "report/svg_lines.h"
#include "report/svg_map.h"
#include "report/svg_scatter.h"

namespace moextract {
namespace {

std::size_t times(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++n;
  return n;
}

TEST(Axis, RoundTicksEncloseTheValues) {
  for (const auto& [low, high] : std::vector<std::pair<double, double>>{
           {0, 1}, {25.7, 69.6}, {69.1, 69.9}, {1e-6, 3e-5}, {3, 3}, {0, 0}, {-4, 17}, {1e7, 1e9}, {99.99, 100}}) {
    const Axis axis = make_axis(low, high, 0, 100, 5);
    EXPECT_LE(axis.low, low + 1e-9 * std::abs(low));
    EXPECT_GE(axis.high, high - 1e-9 * std::abs(high));
    const std::vector<double> ticks = axis.ticks();
    EXPECT_GE(ticks.size(), 2u) << low << " " << high;
    EXPECT_LE(ticks.size(), 10u) << low << " " << high;
    // Ticks that read the same would make the axis a lie.
    for (std::size_t i = 1; i < ticks.size(); ++i) {
      EXPECT_NE(axis.tick_text(ticks[i - 1]), axis.tick_text(ticks[i])) << low << " " << high;
    }
    EXPECT_NEAR(axis.at(axis.low), 0, 1e-9);
    EXPECT_NEAR(axis.at(axis.high), 100, 1e-9);
  }
  EXPECT_EQ(make_axis(0, 1, 0, 1, 4).tick_text(0.25), "0.25");
}

TEST(Labels, CloseAndEqualPointsKeepTheirLabelsApart) {
  const Box area{46, 30, 390, 250};
  const std::vector<std::vector<Point>> cases{
      {{200, 100}, {203, 101}, {201, 104}, {199, 98}, {202, 102}},
      {{200, 100}, {200, 100}, {200, 100}, {200, 100}, {200, 100}, {200, 100}, {200, 100}, {200, 100}},
      {{46, 30}, {436, 30}, {46, 280}, {436, 280}, {46, 31}, {436, 279}},
      {{50, 60}, {90, 60}, {130, 60}, {170, 60}, {210, 60}, {250, 60}}};
  for (const std::vector<Point>& anchors : cases) {
    const std::vector<Box> sizes(anchors.size(), Box{0, 0, text_width("Experts, fine-tuned", 12), 15});
    const std::vector<Box> boxes = place_labels(anchors, sizes, area, {}, 7);
    ASSERT_EQ(boxes.size(), anchors.size());
    for (std::size_t i = 0; i < boxes.size(); ++i) {
      EXPECT_GE(boxes[i].x, area.x);
      EXPECT_GE(boxes[i].y, area.y);
      EXPECT_LE(boxes[i].right(), area.right());
      EXPECT_LE(boxes[i].bottom(), area.bottom());
      for (std::size_t j = 0; j < i; ++j) EXPECT_EQ(boxes[i].overlap(boxes[j]), 0) << i << " covers " << j;
      for (const Point& p : anchors) EXPECT_EQ(boxes[i].overlap({p.x - 4, p.y - 4, 8, 8}), 0) << "covers a point";
    }
  }
}

TEST(Labels, FitTextKeepsWholeCharacters) {
  EXPECT_EQ(fit_text("short", 12, 100), "short");
  EXPECT_EQ(fit_text("ääääääääää", 10, 30), "ääää…");
}

TEST(Scatter, DrawsEveryPointOnce) {
  ScatterChart chart{"d", "x", "y", {}};
  for (const double x : {1.0, 1.0, 2.0}) chart.points.push_back({x, 50 * x, 1.0, "p", "", "s-moee", true, false, -1});
  chart.points[2].reference = true;
  chart.points[1].link = 0;
  const std::string svg = draw_scatter(chart);
  EXPECT_EQ(html_fault(svg), "");
  EXPECT_EQ(times(svg, "<circle"), 2u);
  EXPECT_EQ(times(svg, "class=\"reference\""), 1u);
  EXPECT_EQ(times(svg, "class=\"link"), 1u);
  EXPECT_EQ(html_fault(draw_scatter({"d", "x", "y", {}})), "");
}

TEST(Bars, EffectiveExperts) {
  EXPECT_NEAR(*effective_experts({0.25, 0.25, 0.25, 0.25}), 4, 1e-12);
  EXPECT_NEAR(*effective_experts({1.0, 0.0, Number()}), 1, 1e-12);
  EXPECT_NEAR(*effective_experts({0.5, 0.25, 0.25}), std::pow(2, 1.5), 1e-12);
  EXPECT_FALSE(effective_experts({}));
  EXPECT_FALSE(effective_experts({0.0, 0.0}));
}

TEST(Bars, TokenSharesHaveOneSegmentAnExpert) {
  Layer layer;
  layer.layer = 7;
  layer.kind = "experts";
  layer.token_share = {0.1, 0.6, 0.3};
  const std::string svg = draw_token_shares({layer});
  EXPECT_EQ(html_fault(svg), "");
  EXPECT_EQ(times(svg, "<rect"), 3u);
  // Most used first.
  EXPECT_LT(svg.find("layer 7, expert 1: 60.0 % of tokens"), svg.find("layer 7, expert 2: 30.0 % of tokens"));
  EXPECT_LT(svg.find("expert 2: 30.0 %"), svg.find("expert 0: 10.0 %"));
}

TEST(Bars, SizesAndKeptNeuronsAreDrawnToScale) {
  Layer layer;
  layer.layer = 0;
  layer.hidden = 100;
  layer.sizes = {50, 25};
  layer.union_size = 60;
  layer.active_share = 0.4;
  const std::string svg = draw_expert_sizes(layer);
  EXPECT_EQ(html_fault(svg), "");
  // The plot is 94 high: half of it is 47, a quarter 23.5.
  EXPECT_EQ(times(svg, "height=\"47\""), 1u);
  EXPECT_EQ(times(svg, "height=\"23.5\""), 1u);
  EXPECT_EQ(times(svg, "class=\"union\""), 1u);
  EXPECT_EQ(html_fault(draw_kept_neurons({{0, 100, 25}, {1, 100, 100}, {2, {}, {}}})), "");
  EXPECT_EQ(html_fault(draw_kept_neurons({})), "");
}

TEST(Bars, ReusedStagesAreMarked) {
  const std::string svg = draw_times({{"collect", 10.0, true}, {"cluster", 5.0, false}, {"report", {}, false}});
  EXPECT_EQ(html_fault(svg), "");
  EXPECT_EQ(times(svg, "class=\"reused\""), 1u);
  EXPECT_EQ(times(svg, "10.0 s, reused<"), 1u);
}

TEST(Map, EachCellHasTheShadeOfItsCount) {
  // Of a largest count of 10: 1 and 2 are the first shade of five, 3 the second, 0 is none.
  const std::vector<std::int64_t> tokens{1, 2, 3, 0, 10, 10, 0, 0, 9};
  const std::string map = draw_position_map(tokens, 3, "a & b");
  EXPECT_EQ(html_fault(map), "");
  EXPECT_NE(map.find("M0 0h2v1h-2z\" class=\"s-moee bar\" fill-opacity=\"0.20\""), std::string::npos) << map;
  EXPECT_NE(map.find("M2 0h1v1h-1z\" class=\"s-moee bar\" fill-opacity=\"0.40\""), std::string::npos) << map;
  // 10 and 9: ten bars each begin at a cell, and cells of one shade in two rows are two bars of one path.
  EXPECT_NE(map.find("M1 1h2v1h-2z"), std::string::npos) << map;
  EXPECT_NE(map.find("M2 2h1v1h-1z"), std::string::npos) << map;
  EXPECT_EQ(times(map, "<path"), 3u) << map;
  EXPECT_EQ(times(draw_position_map(std::vector<std::int64_t>(4, 0), 2, "nothing"), "<path"), 0u);
}

TEST(Lines, LongCurvesAreThinnedAndGapsBreakThem) {
  Curve curve{"a", "s-moee", {}, {}};
  for (int i = 0; i < 10000; ++i) {
    curve.x.push_back(i);
    curve.y.push_back(1.0 / (1 + i));
  }
  const std::string long_curve = draw_lines({"d", "x", "y", {curve}});
  EXPECT_EQ(html_fault(long_curve), "");
  EXPECT_EQ(times(long_curve, "<path"), 1u);
  EXPECT_LT(long_curve.size(), 8000u);
  curve.x = {0.0, 1.0, 2.0, 3.0, 4.0};
  curve.y = {5.0, 4.0, Number(), 2.0, 1.0, 0.5};
  EXPECT_EQ(times(draw_lines({"d", "x", "y", {curve}}), "<path"), 2u);
  curve.y = {Number(), Number()};
  EXPECT_NE(draw_lines({"d", "x", "y", {curve}}).find("no finite values"), std::string::npos);
}

TEST(Lines, SparklinesBearAnyLength) {
  EXPECT_EQ(html_fault(draw_sparkline({}, "d")), "");
  EXPECT_EQ(html_fault(draw_sparkline({1.0}, "d")), "");
  EXPECT_EQ(html_fault(draw_sparkline({2.0, 2.0}, "d")), "");
  EXPECT_EQ(html_fault(draw_sparkline({Number(), 2.0, 1.0}, "d")), "");
}

}  // namespace
}  // namespace moextract
