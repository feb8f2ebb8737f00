// Curves: one picture with axes, and sparklines without.
#pragma once

#include <string>
#include <vector>

#include "report/results.h"

namespace moextract {

struct Curve {
  std::string name, series;  ///< style class of the series
  std::vector<Number> x, y;  ///< as long as each other, or the longer is cut; an absent value breaks the line
};

struct LineChart {
  std::string description, x_title, y_title;
  std::vector<Curve> curves;
};

/// More than this many points of a curve are drawn as the means of equal runs of points.
inline constexpr std::size_t kCurvePoints = 300;

std::string draw_lines(const LineChart& chart);

/// A small curve over the index, from its highest to its lowest value.
std::string draw_sparkline(const std::vector<Number>& values, const std::string& description);

}  // namespace moextract
