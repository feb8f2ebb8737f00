#include "sweep/page.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "report/html_page.h"
#include "report/html_text.h"
#include "report/number_text.h"
#include "report/svg_canvas.h"

namespace moextract::sweep {
namespace {

std::string percent_number(Number share, int decimals = 2) {
  return share ? fixed_text(*share * 100, decimals) : "-";
}

std::string label_of(const Row& row) {
  std::string text;
  for (const Setting& setting : row.settings) text += (text.empty() ? "" : ", ") + setting.key + "=" + setting.value;
  return text.empty() ? row.run : text;
}

bool is_accuracy(const Measure& measure) {
  return measure.key.starts_with("top1");
}

/// A cell's text in the unit of its column.
std::string measure_text(const Measure& measure, Number value, const Unit& unit) {
  if (is_accuracy(measure)) return percent_number(value);
  if (measure.key.starts_with("images")) return rate_text(value);
  return unit.text(value);
}

std::vector<Unit> units_of(const std::vector<Row>& rows) {
  std::vector<Unit> units;
  for (const Measure& measure : measures()) {
    std::vector<Number> values;
    for (const Row& row : rows) values.push_back(measure.value(row));
    units.push_back(unit_for(values));
  }
  return units;
}

std::string title_of(const Measure& measure, const Unit& unit) {
  if (is_accuracy(measure)) return measure.title + " (%)";
  return unit.prefix.empty() || measure.key.starts_with("images") ? measure.title
                                                                  : measure.title + " (" + unit.prefix + ")";
}

std::string series_of(const Row& row) {
  return row.method == "vbp" ? "s-vbp" : (row.method == "dense" ? "s-dense" : "s-moee");
}

/// Accuracy against MACs: a point a row, the front as a line. Names appear when one points at them, as there may be
/// hundreds.
std::string front_picture(const std::vector<Row>& rows) {
  std::vector<const Row*> shown;
  std::vector<Number> macs;
  for (const Row& row : rows) {
    if (!row.final_top1() || !row.final_macs()) continue;
    shown.push_back(&row);
    macs.push_back(row.final_macs());
  }
  if (shown.empty()) return "<p class=\"soft\">No run has both accuracy and MACs yet.</p>\n";
  const Unit unit = unit_for(macs);
  const auto x_of = [&](double value) { return value / unit.scale; };
  double x_low = x_of(*macs.front()), x_high = x_low, y_low = 100, y_high = 0;
  const auto widen = [&](Number x, Number y) {
    if (!x || !y) return;
    x_low = std::min(x_low, x_of(*x)), x_high = std::max(x_high, x_of(*x));
    y_low = std::min(y_low, *y * 100), y_high = std::max(y_high, *y * 100);
  };
  for (const Row* row : shown) {
    widen(row->final_macs(), row->final_top1());
    widen(row->dense_macs, row->dense_top1);
  }
  const double width = 760, height = 420;
  const Box plot{46, 30, width - 46 - 14, height - 30 - 48};
  const Axis x =
      make_axis(x_low - 0.04 * (x_high - x_low), x_high + 0.04 * (x_high - x_low), plot.x, plot.right(), 7, true);
  const Axis y = make_axis(std::max(0.0, y_low - 1), std::min(100.0, y_high + 1), plot.bottom(), plot.y, 6);
  SvgCanvas svg(width, height, "Accuracy against MACs of all runs, with the Pareto front", "chart wide");
  for (const double tick : y.ticks()) {
    svg.line({plot.x, y.at(tick)}, {plot.right(), y.at(tick)}, "grid");
    svg.text({plot.x - 7, y.at(tick) + 4}, y.tick_text(tick), "tick", "end");
  }
  svg.line({plot.x, plot.bottom()}, {plot.right(), plot.bottom()}, "axis");
  for (const double tick : x.ticks()) {
    svg.line({x.at(tick), plot.bottom()}, {x.at(tick), plot.bottom() + 4}, "axis");
    svg.text({x.at(tick), plot.bottom() + 18}, x.tick_text(tick), "tick", "middle");
  }
  svg.text({0, 14}, "top-1 accuracy (%)", "axis-title");
  svg.text({plot.right(), height - 6}, unit.prefix.empty() ? "MACs" : "MACs (" + unit.prefix + ")", "axis-title",
           "end");
  const auto at = [&](const Row& row) { return Point{x.at(x_of(*row.final_macs())), y.at(*row.final_top1() * 100)}; };
  std::vector<const Row*> front;
  for (const Row* row : shown) {
    if (row->pareto) front.push_back(row);
  }
  std::sort(front.begin(), front.end(), [](const Row* a, const Row* b) { return *a->final_macs() < *b->final_macs(); });
  std::vector<Point> line;
  for (const Row* row : front) line.push_back(at(*row));
  if (line.size() > 1) svg.polyline(line, "curve s-moee");
  std::set<std::string> drawn;
  for (const Row* row : shown) {
    const Point place = at(*row);
    const std::string css = (row->pareto ? "mark " : "mark hollow ") + series_of(*row);
    if (!drawn.insert(fmt::format("{} {:.2f} {:.2f}", css, place.x, place.y)).second) continue;
    svg.circle(place, row->pareto ? 5 : 3.2, css,
               fmt::format("{} ({}): {} % at {}", label_of(*row), row->method, percent_number(row->final_top1()),
                           unit.with_prefix(row->final_macs())));
  }
  std::set<std::pair<double, double>> dense;
  for (const Row* row : shown) {
    if (!row->dense_macs || !row->dense_top1 || !dense.insert({*row->dense_macs, *row->dense_top1}).second) continue;
    svg.diamond({x.at(x_of(*row->dense_macs)), y.at(*row->dense_top1 * 100)}, 6, "mark s-dense",
                fmt::format("dense: {} %", percent_number(row->dense_top1)));
  }
  return fmt::format(
      "<figure>\n{}<figcaption>Each point is a model: after fine-tuning where there was one. Filled points lie on the "
      "Pareto front: no other is at least as good in accuracy and MACs and better in one. The diamond is the dense "
      "model.</figcaption></figure>\n",
      svg.finish());
}

std::string rows_table(const SweepResults& results) {
  const std::vector<Unit> units = units_of(results.rows);
  const std::vector<std::size_t> best = best_rows(results.rows);
  std::vector<HtmlColumn> columns{{"Run"}, {"Method"}};
  for (const std::string& key : results.plan.varied) columns.push_back({key});
  for (std::size_t m = 0; m < measures().size(); ++m) columns.push_back({title_of(measures()[m], units[m]), true});
  columns.push_back({"MACs, share", true, "of the dense model's"});
  columns.push_back({"Front", false, "on the Pareto front of accuracy against MACs"});
  HtmlTable table(std::move(columns), true);
  for (std::size_t i = 0; i < results.rows.size(); ++i) {
    const Row& row = results.rows[i];
    std::vector<HtmlCell> cells{
        {fmt::format("<a href=\"runs/{0}/report.html\">{0}</a>", escape_html(row.run)), {}, true},
        text_cell(row.method)};
    for (const std::string& key : results.plan.varied) {
      const auto found =
          std::find_if(row.settings.begin(), row.settings.end(), [&](const Setting& s) { return s.key == key; });
      const std::string value = found == row.settings.end() ? "" : found->value;
      char* end = nullptr;
      const double number = std::strtod(value.c_str(), &end);
      const bool is_number = !value.empty() && end == value.c_str() + value.size();
      cells.push_back({escape_html(value), is_number ? Number(number) : Number()});
    }
    for (std::size_t m = 0; m < measures().size(); ++m) {
      const Number value = measures()[m].value(row);
      const std::string text = escape_html(measure_text(measures()[m], value, units[m]));
      cells.push_back({best[m] == i ? "<b>" + text + "</b>" : text, value});
    }
    const Number share = ratio(row.final_macs(), row.dense_macs);
    cells.push_back(number_cell(percent_text(share), share));
    cells.push_back(text_cell(row.pareto ? "yes" : ""));
    table.add(std::move(cells));
  }
  return "<p>The best of a column is bold, the first of equals. Accuracy is top-1 on the validation images.</p>\n" +
         table.html();
}

std::string groups_table(const SweepResults& results) {
  if (results.groups.empty()) return "";
  const std::vector<Unit> units = units_of(results.rows);
  std::vector<HtmlColumn> columns{{"Method"}};
  for (const Setting& setting : results.groups.front().settings) columns.push_back({setting.key});
  columns.push_back({"Runs", true});
  for (std::size_t m = 0; m < measures().size(); ++m)
    columns.push_back(
        {title_of(measures()[m], units[m]), true, "mean ± standard deviation of the sample; below: from - to"});
  HtmlTable table(std::move(columns), true);
  for (const SeedGroup& group : results.groups) {
    std::vector<HtmlCell> cells{text_cell(group.method)};
    for (const Setting& setting : group.settings) cells.push_back(text_cell(setting.value));
    std::size_t runs = 0;
    for (const SeedGroup::Spread& spread : group.spreads) runs = std::max(runs, spread.count);
    cells.push_back(number_cell(std::to_string(runs), static_cast<double>(runs)));
    for (std::size_t m = 0; m < measures().size(); ++m) {
      const SeedGroup::Spread& spread = group.spreads[m];
      const auto text = [&](Number value) { return escape_html(measure_text(measures()[m], value, units[m])); };
      std::string html = text(spread.mean);
      if (spread.deviation)
        html += " ± " + text(spread.deviation) + "<small>" + text(spread.low) + " - " + text(spread.high) + "</small>";
      cells.push_back({html, spread.mean});
    }
    table.add(std::move(cells));
  }
  std::string names;
  for (const std::string& seed : results.plan.file.seeds) names += (names.empty() ? "" : ", ") + seed;
  return "<h2>Mean and spread over seeds</h2>\n<p>Runs that differ in " + escape_html(names) + " alone.</p>\n" +
         table.html();
}

std::string missing_table(const SweepResults& results) {
  HtmlTable table({{"Run"}, {"Settings"}, {"State"}, {"Cause"}}, true);
  bool any = false;
  for (std::size_t r = 0; r < results.plan.runs.size(); ++r) {
    const RunStatus& status = results.status.runs[r];
    if (status.state == RunState::done) continue;
    any = true;
    table.add({{escape_html(results.plan.runs[r].id), {}, true},
               {"<span class=\"wrap\">" + escape_html(results.plan.runs[r].label()) + "</span>", {}},
               text_cell(state_text(status.state)),
               {"<span class=\"wrap\">" + escape_html(status.detail) + "</span>", {}}});
  }
  return any ? "<h2>Runs that are not in the table</h2>\n" + table.html() : "";
}

std::string origin(const Plan& plan) {
  HtmlTable table({{""}, {""}}, false);
  const auto add = [&](const std::string& name, const std::string& value) {
    table.add({{escape_html(name), {}, true}, {"<span class=\"wrap\">" + escape_html(value) + "</span>", {}}});
  };
  add("Sweep", plan.file.file.string());
  add("Base", plan.file.base.string());
  for (const Setting& setting : plan.file.fixed) add(setting.key, setting.value);
  for (const Constraint& constraint : plan.file.constraints) add("Constraint", constraint.text());
  return "<h2>Where it comes from</h2>\n" + table.html();
}

}  // namespace

std::string render_page(const SweepResults& results) {
  const std::string title = "Sweep " + results.plan.file.name;
  std::string body = fmt::format("<h1>{}</h1>\n<p class=\"lead\">{} of {} runs are done.</p>\n", escape_html(title),
                                 results.status.count(RunState::done), results.plan.runs.size());
  body += "<h2>Accuracy against cost</h2>\n" + front_picture(results.rows);
  body += "<h2>All runs</h2>\n" + rows_table(results);
  body += groups_table(results);
  body += missing_table(results);
  body += origin(results.plan);
  return html_page(title, body);
}

std::string render_text(const SweepResults& results) {
  if (results.rows.empty()) return "No run is done yet.\n";
  const std::vector<Unit> units = units_of(results.rows);
  const std::vector<std::size_t> best = best_rows(results.rows);
  std::string text = "Best of each column:\n";
  const auto line = [&](const std::string& name, const std::string& value, const Row& row) {
    text += fmt::format("  {:<28} {:>9}  {:<8} {}\n", name, value, row.method, label_of(row));
  };
  for (std::size_t m = 0; m < measures().size(); ++m) {
    if (best[m] == SIZE_MAX) continue;
    const Row& row = results.rows[best[m]];
    line(title_of(measures()[m], units[m]), measure_text(measures()[m], measures()[m].value(row), units[m]), row);
  }
  text += "Pareto front, accuracy against MACs:\n";
  std::vector<const Row*> front;
  for (const Row& row : results.rows) {
    if (row.pareto) front.push_back(&row);
  }
  std::stable_sort(front.begin(), front.end(),
                   [](const Row* a, const Row* b) { return *a->final_macs() < *b->final_macs(); });
  const auto same = [](const Row* a, const Row* b) {  // a model that several runs share, such as VBP
    return a->method == b->method && *a->final_macs() == *b->final_macs() && *a->final_top1() == *b->final_top1();
  };
  front.erase(std::unique(front.begin(), front.end(), same), front.end());
  for (const Row* row : front) {
    line(unit_for(row->final_macs()).with_prefix(row->final_macs()) + " MACs", percent_number(row->final_top1()) + " %",
         *row);
  }
  return text;
}

}  // namespace moextract::sweep
