// A scatter picture whose points carry their names, placed so that none covers another.
#pragma once

#include <string>
#include <vector>

#include "report/results.h"
#include "report/svg_canvas.h"

namespace moextract {

struct ScatterPoint {
  double x = 0, y = 0;
  Number error;  ///< half length of the error bar, in units of y
  std::string label, title;
  std::string series;      ///< style class: "s-dense", "s-vbp", "s-moee"
  bool filled = true;      ///< hollow marks what was not fine-tuned
  bool reference = false;  ///< the dense model: a diamond, with a dashed line at its y
  int link = -1;           ///< index of the point it is joined to, -1 for none
};

struct ScatterChart {
  std::string description, x_title, y_title;
  std::vector<ScatterPoint> points;
};

std::string draw_scatter(const ScatterChart& chart);

/// A place inside `area` for one label of each `sizes` (only width and height count) beside its anchor: clear of the
/// other labels, of `obstacles` and of all anchors (discs of radius `clearance`) as long as the area has room for it.
std::vector<Box> place_labels(const std::vector<Point>& anchors, const std::vector<Box>& sizes, const Box& area,
                              const std::vector<Box>& obstacles, double clearance);

}  // namespace moextract
