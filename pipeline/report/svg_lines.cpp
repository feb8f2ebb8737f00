// Curves: one picture with axes, and sparklines without.
#include "report/svg_lines.h"

#include <algorithm>
#include <limits>

#include "report/svg_canvas.h"

namespace moextract {
namespace {

/// Runs of points without a gap, thinned to about kCurvePoints.
std::vector<std::vector<Point>> runs(const Curve& curve) {
  const std::size_t count = std::min(curve.x.size(), curve.y.size());
  const std::size_t stride = (count + kCurvePoints - 1) / kCurvePoints;
  std::vector<std::vector<Point>> result(1);
  for (std::size_t at = 0; at < count; at += stride) {
    Point sum;
    double n = 0;
    bool gap = false;
    for (std::size_t i = at; i < std::min(count, at + stride); ++i) {
      if (curve.x[i] && curve.y[i]) {
        sum.x += *curve.x[i];
        sum.y += *curve.y[i];
        n += 1;
      } else {
        gap = true;
      }
    }
    if (n > 0) result.back().push_back({sum.x / n, sum.y / n});
    if (gap && !result.back().empty()) result.emplace_back();
  }
  return result;
}

}  // namespace

std::string draw_lines(const LineChart& chart) {
  const double width = 450, height = 250;
  const Box plot{58, 30, width - 58 - 14, height - 30 - 48};
  SvgCanvas svg(width, height, chart.description);

  double x_low = std::numeric_limits<double>::infinity(), x_high = -x_low, y_low = x_low, y_high = -x_low;
  std::vector<std::vector<std::vector<Point>>> lines;
  for (const Curve& curve : chart.curves) {
    lines.push_back(runs(curve));
    for (const auto& run : lines.back()) {
      for (const Point& point : run) {
        x_low = std::min(x_low, point.x);
        x_high = std::max(x_high, point.x);
        y_low = std::min(y_low, point.y);
        y_high = std::max(y_high, point.y);
      }
    }
  }
  if (!(x_low <= x_high)) {
    svg.text({width / 2, height / 2}, "no finite values", "tick", "middle");
    return svg.finish();
  }
  const Axis x = make_axis(x_low, x_high, plot.x, plot.right(), 5, true);
  // Zero is part of the picture where it is near: a loss that halves should look like half.
  const Axis y = make_axis(y_low > 0 && y_low < 0.5 * y_high ? 0 : y_low, y_high, plot.bottom(), plot.y, 4);
  for (const double tick : y.ticks()) {
    svg.line({plot.x, y.at(tick)}, {plot.right(), y.at(tick)}, "grid");
    svg.text({plot.x - 7, y.at(tick) + 4}, y.tick_text(tick), "tick", "end");
  }
  svg.line({plot.x, plot.bottom()}, {plot.right(), plot.bottom()}, "axis");
  for (const double tick : x.ticks()) {
    svg.line({x.at(tick), plot.bottom()}, {x.at(tick), plot.bottom() + 4}, "axis");
    svg.text({x.at(tick), plot.bottom() + 18}, x.tick_text(tick), "tick", "middle");
  }
  svg.text({0, 14}, chart.y_title, "axis-title");
  svg.text({plot.right(), height - 6}, chart.x_title, "axis-title", "end");
  for (std::size_t c = 0; c < lines.size(); ++c) {
    for (const auto& run : lines[c]) {
      std::vector<Point> path;
      for (const Point& point : run) path.push_back({x.at(point.x), y.at(point.y)});
      svg.polyline(path, "curve " + chart.curves[c].series);
    }
  }
  return svg.finish();
}

std::string draw_sparkline(const std::vector<Number>& values, const std::string& description) {
  const double width = 180, height = 44, margin = 4;
  SvgCanvas svg(width, height, description, "spark");
  Curve curve;
  for (std::size_t i = 0; i < values.size(); ++i) curve.x.push_back(static_cast<double>(i));
  curve.y = values;
  const auto lines = runs(curve);
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const auto& run : lines) {
    for (const Point& point : run) {
      low = std::min(low, point.y);
      high = std::max(high, point.y);
    }
  }
  svg.line({margin, height - 1}, {width - margin, height - 1}, "grid");
  if (!(low <= high)) return svg.finish();
  const double last = values.size() > 1 ? static_cast<double>(values.size() - 1) : 1;
  Point end;
  for (const auto& run : lines) {
    std::vector<Point> path;
    for (const Point& point : run) {
      const double y = high > low ? (point.y - low) / (high - low) : 0;
      path.push_back(
          {margin + point.x / last * (width - 2 * margin), height - margin - 2 - y * (height - 2 * margin - 2)});
    }
    svg.polyline(path, "curve s-moee");
    if (!path.empty()) end = path.back();
  }
  svg.circle(end, 2.5, "mark s-moee");
  return svg.finish();
}

}  // namespace moextract
