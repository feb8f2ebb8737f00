// Draws one inline SVG picture.
#include "report/svg_canvas.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/html_text.h"

namespace moextract {
namespace {

/// One decimal is a tenth of a pixel; more would only make the page larger.
std::string number(double value) {
  std::string text = fmt::format("{:.1f}", value);
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  return text == "-0" ? "0" : text;
}

std::string class_attribute(std::string_view css_class) {
  return css_class.empty() ? "" : fmt::format(" class=\"{}\"", css_class);
}

std::string closing(std::string_view tag, std::string_view title) {
  return title.empty() ? "/>\n" : fmt::format("><title>{}</title></{}>\n", escape_html(title), tag);
}

std::size_t code_points(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

}  // namespace

double Box::overlap(const Box& other) const {
  const double w = std::min(right(), other.right()) - std::max(x, other.x);
  const double h = std::min(bottom(), other.bottom()) - std::max(y, other.y);
  return w > 0 && h > 0 ? w * h : 0;
}

SvgCanvas::SvgCanvas(double width, double height, std::string_view description, std::string_view css_class)
    : head_(fmt::format("<svg class=\"{}\" viewBox=\"0 0 {} {}\" width=\"{}\" height=\"{}\" role=\"img\" "
                        "aria-label=\"{}\">\n",
                        css_class, number(width), number(height), number(width), number(height),
                        escape_html(description))) {}

void SvgCanvas::line(Point from, Point to, std::string_view css_class) {
  body_ += fmt::format("<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"{}/>\n", number(from.x), number(from.y),
                       number(to.x), number(to.y), class_attribute(css_class));
}

void SvgCanvas::rect(const Box& box, std::string_view css_class, std::string_view title, double opacity) {
  body_ += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"{}{}{}", number(box.x), number(box.y),
                       number(std::max(0.0, box.width)), number(std::max(0.0, box.height)), class_attribute(css_class),
                       opacity < 1 ? fmt::format(" fill-opacity=\"{:.2f}\"", opacity) : "", closing("rect", title));
}

void SvgCanvas::circle(Point centre, double radius, std::string_view css_class, std::string_view title) {
  body_ += fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"{}\"{}{}", number(centre.x), number(centre.y), number(radius),
                       class_attribute(css_class), closing("circle", title));
}

void SvgCanvas::diamond(Point centre, double radius, std::string_view css_class, std::string_view title) {
  body_ += fmt::format("<path d=\"M{} {}L{} {}L{} {}L{} {}Z\"{}{}", number(centre.x), number(centre.y - radius),
                       number(centre.x + radius), number(centre.y), number(centre.x), number(centre.y + radius),
                       number(centre.x - radius), number(centre.y), class_attribute(css_class), closing("path", title));
}

void SvgCanvas::path(std::string_view data, std::string_view css_class, double opacity) {
  body_ += fmt::format("<path d=\"{}\"{}{}/>\n", data, class_attribute(css_class),
                       opacity < 1 ? fmt::format(" fill-opacity=\"{:.2f}\"", opacity) : "");
}

void SvgCanvas::polyline(const std::vector<Point>& points, std::string_view css_class) {
  if (points.empty()) return;
  std::string path;
  for (const Point& point : points)
    path += fmt::format("{}{} {}", path.empty() ? "M" : "L", number(point.x), number(point.y));
  if (points.size() == 1) path += "h0.1";  // a lone point shows as its line cap
  body_ += fmt::format("<path d=\"{}\"{}/>\n", path, class_attribute(css_class));
}

void SvgCanvas::text(Point at, std::string_view text, std::string_view css_class, std::string_view anchor) {
  body_ +=
      fmt::format("<text x=\"{}\" y=\"{}\"{}{}>{}</text>\n", number(at.x), number(at.y), class_attribute(css_class),
                  anchor == "start" ? "" : fmt::format(" text-anchor=\"{}\"", anchor), escape_html(text));
}

std::string SvgCanvas::finish() const {
  return head_ + body_ + "</svg>\n";
}

double text_width(std::string_view text, double font_size) {
  return static_cast<double>(code_points(text)) * font_size * 0.56;
}

std::string fit_text(std::string_view text, double font_size, double width) {
  if (text_width(text, font_size) <= width) return std::string(text);
  const double room = width / (font_size * 0.56) - 1;
  std::string result;
  double used = 0;
  for (const char c : text) {
    const bool starts = (static_cast<unsigned char>(c) & 0xc0) != 0x80;
    if (starts && used + 1 > room) break;
    used += starts ? 1 : 0;
    result += c;
  }
  return result + "…";
}

std::vector<double> Axis::ticks() const {
  std::vector<double> values;
  const auto first = static_cast<long long>(std::ceil(low / step - 1e-6));
  const auto last = static_cast<long long>(std::floor(high / step + 1e-6));
  for (long long i = first; i <= last; ++i) values.push_back(static_cast<double>(i) * step);
  return values;
}

std::string Axis::tick_text(double value) const {
  const double largest = std::max(std::abs(low), std::abs(high));
  if (largest >= 1e6) return value == 0 ? "0" : fmt::format("{:g}", value);
  if (step < 1e-4) return value == 0 ? "0" : fmt::format("{:.1e}", value);
  const int decimals = std::max(0, static_cast<int>(std::ceil(-std::log10(step) - 1e-9)));
  // A step of 2.5 or 0.25 needs one digit more than its power of ten.
  const double scaled = step * std::pow(10, decimals);
  return fmt::format("{:.{}f}", value, decimals + (std::abs(scaled - std::round(scaled)) > 1e-6 ? 1 : 0));
}

Axis make_axis(double low, double high, double at_low, double at_high, int wanted_ticks, bool tight) {
  if (!(high > low)) {
    // One value only: leave room around it, as much as its size suggests.
    const double room = std::abs(low) > 0 ? std::abs(low) * 0.1 : 1;
    low -= room;
    high += room;
  }
  const double rough = (high - low) / std::max(1, wanted_ticks);
  const double power = std::pow(10, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double factor : {1.0, 2.0, 2.5, 5.0}) {
    if (factor * power >= rough * 0.999) {
      step = factor * power;
      break;
    }
  }
  Axis axis{low, high, step, at_low, at_high};
  if (!tight) {
    axis.low = std::floor(low / step + 1e-9) * step;
    axis.high = std::ceil(high / step - 1e-9) * step;
  }
  return axis;
}

}  // namespace moextract
