// Draws one inline SVG picture: shapes, text and the arithmetic of axes. Colours come from the page's style sheet by
// class, so that light and dark pages share one picture.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace moextract {

struct Point {
  double x = 0, y = 0;
};

struct Box {
  double x = 0, y = 0, width = 0, height = 0;

  double right() const { return x + width; }
  double bottom() const { return y + height; }
  /// Area in common, 0 when they only touch.
  double overlap(const Box& other) const;
};

class SvgCanvas {
 public:
  /// `description` is read aloud in place of the picture. Sizes in the picture's own units, about pixels.
  SvgCanvas(double width, double height, std::string_view description, std::string_view css_class = "chart");

  void line(Point from, Point to, std::string_view css_class);
  void rect(const Box& box, std::string_view css_class, std::string_view title = "", double opacity = 1);
  void circle(Point centre, double radius, std::string_view css_class, std::string_view title = "");
  void diamond(Point centre, double radius, std::string_view css_class, std::string_view title = "");
  /// `data`: commands of an SVG path.
  void path(std::string_view data, std::string_view css_class, double opacity = 1);
  void polyline(const std::vector<Point>& points, std::string_view css_class);
  /// `anchor`: "start", "middle" or "end". The point lies on the base line.
  void text(Point at, std::string_view text, std::string_view css_class = "", std::string_view anchor = "start");

  std::string finish() const;

 private:
  std::string head_, body_;
};

/// Width in the picture's units, estimated on the safe side: the reader's font is unknown.
double text_width(std::string_view text, double font_size);

/// `text` cut to a width, with an ellipsis.
std::string fit_text(std::string_view text, double font_size, double width);

/// The scale of one axis: round limits that enclose [low, high] and round ticks.
struct Axis {
  double low = 0, high = 1, step = 1;
  double at_low = 0, at_high = 1;  ///< positions in the picture

  double at(double value) const { return at_low + (value - low) / (high - low) * (at_high - at_low); }
  std::vector<double> ticks() const;
  std::string tick_text(double value) const;
};

/// `tight` limits enclose the values without being ticks themselves.
Axis make_axis(double low, double high, double at_low, double at_high, int wanted_ticks, bool tight = false);

}  // namespace moextract
