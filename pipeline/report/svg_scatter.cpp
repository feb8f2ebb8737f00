// A scatter picture whose points carry their names.
#include "report/svg_scatter.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace moextract {
namespace {

constexpr double kFont = 12;
constexpr double kMark = 4.8;

Box around(Point centre, double radius) {
  return {centre.x - radius, centre.y - radius, 2 * radius, 2 * radius};
}

/// The point of the box's border that is nearest to `point`, where a leader line ends.
Point nearest(const Box& box, Point point) {
  return {std::clamp(point.x, box.x, box.right()), std::clamp(point.y, box.y, box.bottom())};
}

}  // namespace

std::vector<Box> place_labels(const std::vector<Point>& anchors, const std::vector<Box>& sizes, const Box& area,
                              const std::vector<Box>& obstacles, double clearance) {
  std::vector<Box> placed;
  const auto cost = [&](const Box& box, std::size_t self, double preference) {
    double total = preference;
    for (const Box& other : placed)
      total += 1000 * box.overlap({other.x - 3, other.y - 1, other.width + 6, other.height + 2});
    for (const Point& anchor : anchors) total += 200 * box.overlap(around(anchor, clearance));
    for (const Box& obstacle : obstacles) total += 4 * box.overlap(obstacle);
    const Point end = nearest(box, anchors[self]);
    return total + 0.6 * std::hypot(end.x - anchors[self].x, end.y - anchors[self].y);
  };
  for (std::size_t i = 0; i < anchors.size(); ++i) {
    const double w = sizes[i].width, h = sizes[i].height;
    Box best;
    double best_cost = std::numeric_limits<double>::infinity();
    const auto consider = [&](double x, double y, double preference) {
      const Box box{std::clamp(x, area.x, std::max(area.x, area.right() - w)),
                    std::clamp(y, area.y, std::max(area.y, area.bottom() - h)), w, h};
      const double c = cost(box, i, preference);
      if (c < best_cost) {
        best_cost = c;
        best = box;
      }
    };
    const Point a = anchors[i];
    for (const double d : {clearance + 3, 22.0, 36.0, 52.0, 70.0}) {
      const double diagonal = d * 0.75;
      consider(a.x + d, a.y - h / 2, 0);
      consider(a.x - d - w, a.y - h / 2, 1);
      consider(a.x - w / 2, a.y - d - h, 2);
      consider(a.x - w / 2, a.y + d, 2);
      consider(a.x + diagonal, a.y - diagonal - h, 3);
      consider(a.x + diagonal, a.y + diagonal, 3);
      consider(a.x - diagonal - w, a.y - diagonal - h, 4);
      consider(a.x - diagonal - w, a.y + diagonal, 4);
    }
    // Crowded: any free place with a leader line is better than two labels on one another.
    if (best_cost > 150) {
      for (double y = area.y; y + h <= area.bottom(); y += h / 2) {
        for (double x = area.x; x + w <= area.right(); x += 10) consider(x, y, 20);
      }
    }
    placed.push_back(best);
  }
  return placed;
}

std::string draw_scatter(const ScatterChart& chart) {
  const double width = 450, height = 330;
  const Box plot{46, 30, width - 46 - 14, height - 30 - 48};
  SvgCanvas svg(width, height, chart.description);

  double x_low = std::numeric_limits<double>::infinity(), x_high = -x_low, y_low = x_low, y_high = -x_low;
  for (const ScatterPoint& point : chart.points) {
    x_low = std::min(x_low, point.x);
    x_high = std::max(x_high, point.x);
    y_low = std::min(y_low, point.y - point.error.value_or(0));
    y_high = std::max(y_high, point.y + point.error.value_or(0));
  }
  if (chart.points.empty()) x_low = y_low = 0, x_high = y_high = 1;
  const double x_room = (x_high - x_low) * 0.12, y_room = (y_high - y_low) * 0.05;
  const Axis x = make_axis(x_low - x_room, x_high + x_room, plot.x, plot.right(), 5, true);
  // Accuracies lie between 0 and 100.
  const Axis y = make_axis(std::max(0.0, y_low - y_room), std::min(100.0, y_high + y_room), plot.bottom(), plot.y, 5);

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

  std::vector<Point> anchors;
  std::vector<Box> sizes, obstacles;
  for (const ScatterPoint& point : chart.points) {
    const Point at{x.at(point.x), y.at(point.y)};
    anchors.push_back(at);
    sizes.push_back({0, 0, text_width(point.label, kFont), kFont + 3});
    if (point.error) {
      const double top = y.at(point.y + *point.error), bottom = y.at(point.y - *point.error);
      obstacles.push_back({at.x - 4, top, 8, bottom - top});
    }
    if (point.reference) {
      svg.line({plot.x, at.y}, {plot.right(), at.y}, "reference");
      obstacles.push_back({plot.x, at.y - 1, plot.width, 2});
    }
  }
  for (std::size_t i = 0; i < chart.points.size(); ++i) {
    const int link = chart.points[i].link;
    if (link < 0) continue;
    svg.line(anchors[i], anchors[static_cast<std::size_t>(link)], "link " + chart.points[i].series);
  }
  for (std::size_t i = 0; i < chart.points.size(); ++i) {
    const ScatterPoint& point = chart.points[i];
    if (!point.error) continue;
    const double top = y.at(point.y + *point.error), bottom = y.at(point.y - *point.error);
    svg.line({anchors[i].x, top}, {anchors[i].x, bottom}, "error " + point.series);
    svg.line({anchors[i].x - 3, top}, {anchors[i].x + 3, top}, "error " + point.series);
    svg.line({anchors[i].x - 3, bottom}, {anchors[i].x + 3, bottom}, "error " + point.series);
  }
  const std::vector<Box> labels = place_labels(anchors, sizes, plot, obstacles, kMark + 2);
  for (std::size_t i = 0; i < chart.points.size(); ++i) {
    const Point end = nearest(labels[i], anchors[i]);
    if (std::hypot(end.x - anchors[i].x, end.y - anchors[i].y) > 18) svg.line(anchors[i], end, "leader");
  }
  for (std::size_t i = 0; i < chart.points.size(); ++i) {
    const ScatterPoint& point = chart.points[i];
    const std::string css = (point.filled || point.reference ? "mark " : "mark hollow ") + point.series;
    if (point.reference) {
      svg.diamond(anchors[i], kMark + 1.5, css, point.title);
    } else {
      svg.circle(anchors[i], kMark, css, point.title);
    }
    svg.text({labels[i].x + labels[i].width / 2, labels[i].bottom() - 4}, point.label, "label", "middle");
  }
  return svg.finish();
}

}  // namespace moextract
