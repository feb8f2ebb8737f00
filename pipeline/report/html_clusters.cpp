// The clustering section of the report page: what was found in each layer, and how it was judged.
#include <fmt/format.h>

#include <algorithm>

#include "report/html_sections.h"
#include "report/html_text.h"
#include "report/number_text.h"
#include "report/svg_lines.h"
#include "report/svg_tree.h"

namespace moextract {
namespace {

std::string sizes_text(const std::vector<std::int64_t>& sizes) {
  if (sizes.empty()) return "-";
  const auto [least, most] = std::minmax_element(sizes.begin(), sizes.end());
  return *least == *most ? count_text(*least) : count_text(*least) + " to " + count_text(*most);
}

std::string iterations_text(const Clustering& c) {
  const char* state = !c.converged ? "" : *c.converged ? ", converged" : ", stopped before convergence";
  return fmt::format("<br>inertia {}<br>{} {}{}", escape_html(short_text(c.inertia)), count_text(c.iterations),
                     c.iterations == 1 ? "iteration" : "iterations", state);
}

std::string hdbscan_text(const Clustering& c) {
  std::string text =
      fmt::format("<br>{} found in {} sampled rows<br>noise {} of all rows", count_text(c.clusters_found),
                  count_text(c.sampled_rows), percent_text(ratio(as_number(c.noise_rows), as_number(c.rows))));
  if (c.held_back_ari) {
    text += fmt::format("<br>predicted as fitted: ARI {} on {} rows held back", fixed_text(c.held_back_ari, 3),
                        count_text(c.held_back_rows));
  }
  return text;
}

std::string panel(const Clustering& c) {
  std::string name = "Layer " + count_text(c.layer);
  if (!c.tap.empty()) name += ", " + c.tap;
  std::string picture = "<br>";
  if (c.is_hdbscan()) {
    picture = draw_condensed_tree(c);
  } else if (!c.history.empty()) {
    picture = draw_sparkline(c.history, name + ": inertia after each iteration");
  }
  std::string html = fmt::format("<div class=\"panel-box\"><b>{}</b>{}k = {}, {} rows", escape_html(name), picture,
                                 count_text(c.k), count_text(c.rows));
  if (!c.criterion.empty()) {
    html += "<br>k by " + escape_html(c.criterion);
    if (!c.tried.empty()) html += fmt::format(" among {} tried", c.tried.size());
  }
  html += c.is_hdbscan() ? hdbscan_text(c) : iterations_text(c);
  if (c.silhouette) {
    html += fmt::format("<br>silhouette {}, Davies-Bouldin {}", fixed_text(c.silhouette, 3),
                        fixed_text(c.davies_bouldin, 2));
  }
  if (c.seed_agreement) html += "<br>ARI between seeds " + fixed_text(c.seed_agreement, 3);
  return html + "<br>cluster sizes " + escape_html(sizes_text(c.sizes)) + "</div>\n";
}

/// How the criterion judged each k, one curve a layer.
std::string tried_figure(const Results& results, int& figures) {
  LineChart chart{"The criterion of each number of clusters tried, one curve a layer", "k", "", {}};
  for (const Clustering& c : results.clusters) {
    if (c.tried.empty()) continue;
    chart.y_title = c.criterion;
    Curve curve{"layer " + count_text(c.layer), "s-moee", {}, {}};
    for (const TriedClusters& tried : c.tried) {
      curve.x.push_back(as_number(tried.k));
      curve.y.push_back(tried.score);
    }
    chart.curves.push_back(std::move(curve));
  }
  if (chart.curves.empty()) return {};
  const bool gap = chart.y_title == "gap";
  return figure(
      draw_lines(chart),
      gap ? "The gap statistic of each number of clusters tried, one curve a layer; the smallest k is taken whose gap "
            "is at least the next one's less its error."
          : "The criterion of each number of clusters tried, one curve a layer; the highest is taken.",
      figures);
}

}  // namespace

std::string clusters_section(const Results& results, int& figures) {
  if (results.clusters.empty()) return {};
  std::string panels = "<div class=\"panels\">\n";
  bool all_converged = true, any_tree = false;
  for (const Clustering& c : results.clusters) {
    if (c.converged == false) all_converged = false;
    any_tree = any_tree || c.is_hdbscan();
    panels += panel(c);
  }
  ++figures;
  const char* caption =
      any_tree
          ? "HDBSCAN's condensed tree of each layer: a box is a cluster, as wide as it has rows, from the density at "
            "which it appears (top) to that at which its last row leaves; filled ones were chosen."
          : "k-means of each layer: inertia after each iteration, from its highest to its lowest value.";
  std::string html = fmt::format(
      "<section>\n<h2>Clustering</h2>\n<figure>{}</div>\n<figcaption><b>Figure {}.</b> {}{}</figcaption></figure>\n",
      panels, figures, caption, all_converged ? "" : " Not every layer converged within the iterations allowed.");
  return html + tried_figure(results, figures) + "</section>\n";
}

}  // namespace moextract
