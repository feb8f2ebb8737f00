// The first sections of the report page: what was kept and saved, and the variants side by side.
#include "report/html_sections.h"

#include <fmt/format.h>

#include <cmath>

#include "report/html_text.h"
#include "report/number_text.h"
#include "report/svg_scatter.h"

namespace moextract {
namespace {

/// A number and its unit stay on one line, and a minus is a minus.
std::string set_numbers(std::string text) {
  for (std::size_t at = 0; (at = text.find(" %", at)) != std::string::npos;) text.replace(at, 1, "\xc2\xa0");
  for (std::size_t at = 0; (at = text.find(" -", at)) != std::string::npos; ++at) {
    if (at + 2 < text.size() && text[at + 2] >= '0' && text[at + 2] <= '9') text.replace(at + 1, 1, "−");
  }
  return text;
}

std::string tile(const std::string& name, const std::string& value, const std::string& under) {
  return fmt::format("<div class=\"tile\"><dt>{}</dt><dd>{}</dd><dd class=\"under\">{}</dd></div>\n", escape_html(name),
                     escape_html(value), escape_html(under));
}

/// "−36.0 %" with a real minus sign.
std::string signed_percent(Number share) {
  if (!share) return "-";
  const std::string size = percent_text(std::abs(*share - 1));
  if (size == "0.0 %") return "±0 %";
  return (*share < 1 ? "−" : "+") + size;
}

std::string arrow(const Unit& unit, Number from, Number to) {
  return unit.with_prefix(from) + " → " + unit.with_prefix(to);
}

std::string tiles(const Variant& subject, const Variant& dense) {
  std::string html = "<dl class=\"tiles\">\n";
  html += tile("Top-1 accuracy kept", percent_text(ratio(subject.top1(), dense.top1())),
               percent_text(dense.top1()) + " → " + percent_text(subject.top1()));
  const Number dense_parameters = as_number(dense.parameters), parameters = as_number(subject.parameters);
  html += tile("MACs per image", signed_percent(ratio(subject.macs_per_image, dense.macs_per_image)),
               arrow(unit_for(dense.macs_per_image), dense.macs_per_image, subject.macs_per_image));
  html += tile("Parameters", signed_percent(ratio(parameters, dense_parameters)),
               arrow(unit_for(dense_parameters), dense_parameters, parameters));
  html +=
      tile("Measured speed", times_text(ratio(subject.images_per_second, dense.images_per_second)),
           fmt::format("{} → {} images/s", rate_text(dense.images_per_second), rate_text(subject.images_per_second)));
  return html + "</dl>\n";
}

std::string with_share(const std::string& value, Number share) {
  return share ? fmt::format("{}<small>{}</small>", escape_html(value), escape_html(percent_text(share)))
               : escape_html(value);
}

std::string dot(const Variant& variant) {
  const bool dense = variant.method == "dense";
  return fmt::format("<span class=\"dot {}{}\"></span>", series_of(variant),
                     dense               ? " square"
                     : variant.finetuned ? ""
                                         : " hollow");
}

std::string method_name(const Variant& variant) {
  if (variant.method == "moee") return "MoEE";
  if (variant.method == "fitted") return "least squares";
  if (variant.method == "vbp") return "VBP";
  return variant.method.empty() ? "-" : variant.method;
}

std::string variants_table(const Results& results) {
  std::vector<Number> macs, parameters;
  for (const Variant& v : results.variants) {
    macs.push_back(v.macs_per_image);
    parameters.push_back(as_number(v.parameters));
  }
  const Unit macs_unit = unit_for(macs), parameters_unit = unit_for(parameters);
  const auto titled = [](const std::string& name, const Unit& unit) {
    return unit.prefix.empty() ? name : name + " (" + unit.prefix + ")";
  };
  HtmlTable table({{"Variant"},
                   {"Method"},
                   {"Fine-tuned"},
                   {"Top-1 (%)", true, "± one standard error, sqrt(p (1 - p) / N)"},
                   {"Top-5 (%)", true},
                   {"Kept (%)", true, "top-1 divided by the dense model's top-1"},
                   {titled("MACs/image", macs_unit), true, "counted; below: share of the dense model's"},
                   {titled("Parameters", parameters_unit), true, "below: share of the dense model's"},
                   {"Images/s", true, "measured; below: ratio to the dense model"},
                   {"Images", true, "number of images in the evaluation"}},
                  true);
  const Variant* dense = results.dense();
  for (const Variant& v : results.variants) {
    const auto share = [](Number value) { return value ? Number(*value * 100) : Number(); };
    const Number kept = dense ? ratio(v.top1(), dense->top1()) : Number();
    const Number speed = dense ? ratio(v.images_per_second, dense->images_per_second) : Number();
    const std::string error =
        v.top1_standard_error() ? "<small>± " + fixed_text(share(v.top1_standard_error()), 2) + "</small>" : "";
    table.add({{dot(v) + escape_html(v.label), {}, true},
               text_cell(method_name(v)),
               text_cell(v.method == "dense" && !v.finetuned ? "-"
                         : v.finetuned                       ? "yes"
                                                             : "no"),
               {fixed_text(share(v.top1()), 2) + error, v.top1()},
               number_cell(fixed_text(share(v.top5()), 2), v.top5()),
               number_cell(fixed_text(share(kept), 1), kept),
               {with_share(macs_unit.text(v.macs_per_image),
                           dense ? ratio(v.macs_per_image, dense->macs_per_image) : Number()),
                v.macs_per_image},
               {with_share(parameters_unit.text(as_number(v.parameters)),
                           dense ? ratio(as_number(v.parameters), as_number(dense->parameters)) : Number()),
                as_number(v.parameters)},
               {rate_text(v.images_per_second) + (speed ? "<small>" + times_text(speed) + "</small>" : ""),
                v.images_per_second},
               {count_text(v.images) +
                    (v.skipped.value_or(0) > 0 ? "<small>" + count_text(v.skipped) + " skipped</small>" : ""),
                as_number(v.images)}});
  }
  return table.html();
}

/// One picture of accuracy against a cost; what lacks either number is named in `missing` instead.
template <class Cost>
std::string scatter(const Results& results, const std::string& what, const std::string& description, Cost cost,
                    std::string& missing) {
  std::vector<Number> costs;
  for (const Variant& v : results.variants) costs.push_back(cost(v));
  const Unit unit = unit_for(costs);
  ScatterChart chart{
      description, unit.prefix.empty() ? what : what + " (" + unit.prefix + ")", "top-1 accuracy (%)", {}};
  std::vector<const Variant*> shown;
  for (const Variant& v : results.variants) {
    const Number value = cost(v), top1 = v.top1();
    if (!value || !top1) {
      missing += (missing.empty() ? "" : ", ") + v.label;
      continue;
    }
    ScatterPoint point;
    point.x = *value / unit.scale;
    point.y = *top1 * 100;
    point.error = *v.top1_standard_error() * 100;
    point.label = v.label;
    point.title = fmt::format("{}: {} top-1, {} {}", v.label, percent_text(top1), unit.with_prefix(value), what);
    point.series = series_of(v);
    point.filled = v.finetuned;
    point.reference = v.method == "dense" && !v.finetuned;
    // Joined to the same method without fine-tuning: the line is what fine-tuning brought.
    for (std::size_t i = 0; i < shown.size() && v.finetuned; ++i) {
      if (shown[i]->name + "-finetuned" == v.name) point.link = static_cast<int>(i);
    }
    chart.points.push_back(point);
    shown.push_back(&v);
  }
  return chart.points.empty() ? std::string() : draw_scatter(chart);
}

}  // namespace

std::string series_of(const Variant& variant) {
  if (variant.has_experts()) return "s-moee";  // one colour for experts, however they were cut
  for (const char* method : {"dense", "vbp"}) {
    if (variant.method == method) return std::string("s-") + method;
  }
  return "s-other";
}

std::string figure(const std::string& picture, const std::string& caption, int& figures, const std::string& css_class) {
  ++figures;
  return fmt::format("<figure{}><div class=\"scroll\">{}</div><figcaption><b>Figure {}.</b> {}</figcaption></figure>\n",
                     css_class.empty() ? "" : " class=\"" + css_class + "\"", picture, figures, caption);
}

std::string page_title(const Results& results) {
  if (!results.title.empty()) return results.title;
  if (!results.model.name.empty()) return results.model.name + " as a mixture of experts";
  return "A vision transformer as a mixture of experts";
}

std::string front_section(const Results& results, const Headline& headline) {
  std::string kicker = "moextract results";
  for (const std::string& part : {results.model.name, results.run.name, results.created}) {
    if (!part.empty()) kicker += " · " + part;
  }
  std::string html =
      fmt::format("<header>\n<p class=\"kicker\">{}</p>\n<h1>{}</h1>\n<p class=\"lead\">{}</p>\n", escape_html(kicker),
                  escape_html(page_title(results)), set_numbers(escape_html(headline.sentence)));
  const Variant* dense = results.dense();
  if (headline.subject && dense && headline.subject != dense && headline.subject->top1())
    html += tiles(*headline.subject, *dense);
  if (!headline.details.empty() || !results.notes.empty()) {
    html += "<ul class=\"details\">\n";
    for (const std::string& detail : headline.details) html += "<li>" + set_numbers(escape_html(detail)) + "</li>\n";
    for (const std::string& note : results.notes) html += "<li>" + escape_html(note) + "</li>\n";
    html += "</ul>\n";
  }
  return html + "</header>\n";
}

std::string variants_section(const Results& results, int& figures) {
  if (results.variants.empty()) return {};
  std::string html = "<section>\n<h2>Accuracy, cost and speed</h2>\n" + variants_table(results);
  html +=
      "<p class=\"soft\">Top-1 ± one standard error, √(p(1 − p)/N). Kept: top-1 divided by the dense model’s top-1. "
      "MACs are counted per image; images per second are measured";
  std::string where;
  if (!results.run.device.empty()) where += " on " + results.run.device;
  if (results.run.ranks)
    where += fmt::format(", {} {}", count_text(results.run.ranks), *results.run.ranks == 1 ? "rank" : "ranks");
  if (results.run.threads_per_rank) {
    where += fmt::format(" of {} {}", count_text(results.run.threads_per_rank),
                         *results.run.threads_per_rank == 1 ? "thread" : "threads");
  }
  html += escape_html(where) + ".</p>\n";

  std::string missing_macs, missing_parameters;
  const std::string by_macs = scatter(
      results, "MACs per image", "Top-1 accuracy against MACs per image",
      [](const Variant& v) { return v.macs_per_image; }, missing_macs);
  const std::string by_parameters = scatter(
      results, "parameters", "Top-1 accuracy against parameters",
      [](const Variant& v) { return as_number(v.parameters); }, missing_parameters);
  const auto caption = [](const std::string& text, const std::string& missing) {
    return missing.empty() ? text : text + " Not shown, for a number is missing: " + escape_html(missing) + ".";
  };
  html += "<div class=\"pair\">\n";
  if (!by_macs.empty()) {
    html += figure(
        by_macs,
        caption("Accuracy against MACs; up and to the left is better. Filled marks are fine-tuned, hollow ones are "
                "not. The bars are ± one standard error, and may be shorter than the mark; the dashed line is the "
                "dense model.",
                missing_macs),
        figures);
  }
  if (!by_parameters.empty()) {
    html += figure(by_parameters, caption("Accuracy against parameters, drawn likewise.", missing_parameters), figures);
  }
  return html + "</div>\n</section>\n";
}

}  // namespace moextract
