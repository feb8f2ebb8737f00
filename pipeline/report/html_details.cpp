// The further sections of the report page: layers, clustering, fine-tuning, time, and where it all comes from.
#include <fmt/format.h>

#include <algorithm>

#include "report/html_sections.h"
#include "report/html_text.h"
#include "report/number_text.h"
#include "report/svg_bars.h"
#include "report/svg_lines.h"
#include "report/svg_map.h"

namespace moextract {
namespace {

/// Up to this many numbers a list stands in its cell; a longer one is folded behind its range.
constexpr std::size_t kShortList = 8;

std::string list_html(const std::vector<std::string>& items, const std::string& range) {
  if (items.empty()) return "-";
  std::string all;
  for (const std::string& item : items) all += (all.empty() ? "" : " ") + item;
  if (items.size() <= kShortList) return "<span class=\"list\">" + escape_html(all) + "</span>";
  return fmt::format("<details><summary>{}</summary><span class=\"wrap\">{}</span></details>", escape_html(range),
                     escape_html(all));
}

HtmlCell sizes_cell(const std::vector<std::int64_t>& sizes) {
  if (sizes.empty()) return {"-", {}};
  std::vector<std::string> items;
  for (const std::int64_t size : sizes) items.push_back(std::to_string(size));
  const auto [least, most] = std::minmax_element(sizes.begin(), sizes.end());
  return {list_html(items, fmt::format("{} to {}", *least, *most)), static_cast<double>(*most)};
}

HtmlCell shares_cell(const std::vector<Number>& shares) {
  std::vector<std::string> items;
  Number least, most;
  for (const Number& share : shares) {
    items.push_back(share ? fixed_text(*share * 100, 1) : "-");
    if (!share) continue;
    least = std::min(*share, least.value_or(*share));
    most = std::max(*share, most.value_or(*share));
  }
  return {list_html(items, fmt::format("{} to {}", least ? fixed_text(*least * 100, 1) : "-",
                                       most ? fixed_text(*most * 100, 1) : "-")),
          most};
}

HtmlCell count_cell(Count count) {
  return number_cell(count_text(count), as_number(count));
}

std::string layers_table(const std::vector<Layer>& layers) {
  HtmlTable table({{"Layer", true},
                   {"Kind"},
                   {"k", true, "number of experts; +1: the class token's own, the last"},
                   {"Hidden", true, "hidden neurons of the dense layer"},
                   {"|S_c|", true, "neurons of each expert, in the order of the experts"},
                   {"Sum of |S_c|", true},
                   {"Union", true, "neurons that are in at least one expert"},
                   {"Active (%)", true, "token-weighted share of the hidden neurons that is computed"},
                   {"Token shares (%)", true, "in the order of the experts"}},
                  true);
  for (const Layer& layer : layers) {
    HtmlCell number = count_cell(layer.layer);
    number.heading = true;
    table.add({number, text_cell(layer.kind), number_cell(layer.experts_text(), as_number(layer.k)),
               count_cell(layer.hidden), sizes_cell(layer.sizes), count_cell(layer.sum_sizes),
               count_cell(layer.union_size),
               number_cell(layer.active_share ? fixed_text(*layer.active_share * 100, 1) : "-", layer.active_share),
               shares_cell(layer.token_share)});
  }
  return table.html();
}

HtmlCell percent_cell(Number share) {
  return number_cell(share ? fixed_text(*share * 100, 1) : "-", share);
}

HtmlCell bits_cell(Number bits) {
  return number_cell(bits ? fixed_text(*bits, 2) : "-", bits);
}

Number mean_of(const std::vector<Number>& values) {
  double sum = 0;
  std::size_t n = 0;
  for (const Number& value : values) {
    if (value) sum += *value, ++n;
  }
  return n > 0 ? Number(sum / static_cast<double>(n)) : Number();
}

/// What the experts know and how they are used; empty where no layer says.
std::string specialisation_table(const std::vector<Layer>& layers) {
  HtmlTable table(
      {{"Layer", true},
       {"Router and cluster agree (%)", true, "recorded tokens that are sent to their own cluster's expert"},
       {"H_s (bits)", true, "mean entropy of the router's probabilities for a token: low when it is decided"},
       {"H_u (bits)", true, "entropy of the tokens' distribution over experts: high when all are used"},
       {"I(E;Y) (bits)", true, "what a token's expert tells about the class of its image"},
       {"I(E;P) (bits)", true, "what a token's expert tells about its position in the image"},
       {"Output error (%)", true, "expected squared error of an expert's output, of its variance; mean"},
       {"Overlap (%)", true, "neurons that two experts share, of those that either has; mean over pairs"},
       {"Modularity", true,
        "of neurons that are active together, grouped by the expert in whose tokens they vary most"}},
      true);
  bool any = false;
  for (const Layer& layer : layers) {
    if (layer.kind != "experts") continue;
    any = any || layer.usage_entropy || layer.overlap;
    HtmlCell number = count_cell(layer.layer);
    number.heading = true;
    table.add({number, percent_cell(layer.router_agreement), bits_cell(layer.router_entropy),
               bits_cell(layer.usage_entropy), bits_cell(layer.class_information),
               bits_cell(layer.position_information), percent_cell(mean_of(layer.output_error)),
               percent_cell(layer.overlap), bits_cell(layer.modularity)});
  }
  return any ? "<h3>What the experts know</h3>\n" + table.html() : std::string();
}

std::string expert_box(const ExpertTokens& expert, std::size_t number, std::int64_t layer, std::int64_t grid) {
  std::string html = fmt::format(
      "<div class=\"panel-box\"><b>{}</b>{}", number,
      draw_position_map(expert.positions, grid,
                        fmt::format("Layer {}, expert {}: where in the image its tokens lie", layer, number)));
  std::string classes;
  for (const ExpertTokens::TellingClass& told : expert.classes) {
    if (!told.index || !told.lift) continue;
    classes += fmt::format("{}{} ({})", classes.empty() ? "" : ", ", *told.index, fixed_text(told.lift, 1));
  }
  return html + escape_html(classes) + "</div>\n";
}

/// Expert by position and expert by class, a folded part for each layer; empty where no layer says.
std::string experts_figures(const std::vector<Layer>& layers) {
  std::string html;
  for (const Layer& layer : layers) {
    if (layer.experts.empty()) continue;
    html += fmt::format("<details><summary>Layer {}</summary>\n<div class=\"maps\">\n", count_text(layer.layer));
    for (std::size_t e = 0; e < layer.experts.size(); ++e)
      html += expert_box(layer.experts[e], e, layer.layer.value_or(0), layer.grid.value_or(0));
    html += "</div></details>\n";
  }
  if (html.empty()) return {};
  return "<h3>What each expert takes</h3>\n<p>Where in the validation images the tokens of each routed expert lie, the "
         "darkest patch being the commonest, and the classes that tell most about its choice: their index and, in "
         "brackets, how many times more often than among all routed tokens they come.</p>\n" +
         html;
}

std::string key(const std::string& css_class, const std::string& text, bool bar = false) {
  const std::string shape = bar ? fmt::format("<rect width=\"26\" height=\"10\" class=\"{}\"/>", css_class)
                                : fmt::format("<line x1=\"0\" y1=\"5\" x2=\"26\" y2=\"5\" class=\"{}\"/>", css_class);
  return fmt::format("<span class=\"key\"><svg viewBox=\"0 0 26 10\" aria-hidden=\"true\">{}</svg>{}</span>", shape,
                     escape_html(text));
}

std::string pairs_table(const TextPairs& pairs, const char* left, const char* right) {
  HtmlTable table({{left}, {right}}, false);
  for (const auto& [name, value] : pairs) {
    table.add({{"<code>" + escape_html(name) + "</code>", {}, true},
               {"<code class=\"wrap\">" + escape_html(value) + "</code>", {}}});
  }
  return table.html();
}

std::string data_table(const std::vector<DataSet>& sets) {
  HtmlTable table({{"Used for"}, {"Data"}, {"Images", true}, {"Skipped", true}}, false);
  for (const DataSet& set : sets) {
    HtmlCell name = text_cell(set.role);
    name.heading = true;
    HtmlCell summary = text_cell(set.summary);
    summary.html = "<span class=\"wrap\">" + summary.html + "</span>";
    table.add({name, summary, count_cell(set.images), count_cell(set.skipped)});
  }
  return table.html();
}

}  // namespace

std::string layers_section(const Results& results, int& figures) {
  if (results.layers.empty()) return {};
  std::string html = "<section>\n<h2>Layers and experts</h2>\n";
  const bool shares =
      std::any_of(results.layers.begin(), results.layers.end(), [](const Layer& l) { return !l.token_share.empty(); });
  if (shares) {
    html += figure(
        draw_token_shares(results.layers),
        "Share of tokens that each expert receives. Numbers name the experts. Effective experts: exp of the entropy of "
        "the shares, k when all are used equally, 1 when one takes everything.",
        figures);
  }
  const auto dense =
      std::count_if(results.layers.begin(), results.layers.end(), [](const Layer& l) { return l.kind == "dense"; });
  if (static_cast<std::size_t>(dense) < results.layers.size()) {
    std::string panels = "<div class=\"panels\">\n";
    for (const Layer& layer : results.layers)
      panels += "<div class=\"panel-box\">" + draw_expert_sizes(layer) + "</div>\n";
    panels += "</div>\n";
    ++figures;
    html += fmt::format(
        "<figure>{}<div class=\"keys\">{}{}{}{}</div><figcaption><b>Figure {}.</b> Neurons of each expert against the "
        "hidden neurons of its "
        "layer. Neurons above the union are in no expert and are deleted; the active share is what a token computes on "
        "average.</figcaption></figure>\n",
        panels, key("s-moee bar", "neurons of an expert, |S_c|", true), key("ghost", "hidden neurons", true),
        key("union", "union of all experts"), key("active", "mean active share"), figures);
  } else {
    html += "<p>Every layer stayed dense.</p>\n";
  }
  return html + "<h3>Every layer in numbers</h3>\n" + layers_table(results.layers) +
         specialisation_table(results.layers) + experts_figures(results.layers) + "</section>\n";
}

std::string vbp_section(const Results& results, int& figures) {
  if (results.vbp_layers.empty()) return {};
  std::int64_t hidden = 0, kept = 0;
  for (const VbpLayer& layer : results.vbp_layers) {
    hidden += layer.hidden.value_or(0);
    kept += layer.kept.value_or(0);
  }
  return "<section>\n<h2>VBP, the baseline</h2>\n" +
         figure(draw_kept_neurons(results.vbp_layers),
                escape_html(fmt::format(
                    "Neurons that variance-based pruning keeps in each layer: {} of {} in all ({}).", count_text(kept),
                    count_text(hidden), percent_text(ratio(static_cast<double>(kept), static_cast<double>(hidden))))),
                figures) +
         "</section>\n";
}

std::string finetune_section(const Results& results, int& figures) {
  if (results.finetune.empty()) return {};
  LineChart loss{"Loss during fine-tuning", "step", "loss", {}};
  LineChart rate{"Learning rate during fine-tuning", "step", "learning rate", {}};
  std::string keys, times;
  bool any_rate = false, thinned = false;
  std::size_t longest = 0;
  for (const FinetuneCurve& curve : results.finetune) {
    std::string series = "s-other", label = curve.variant.empty() ? "fine-tuning" : curve.variant;
    if (curve.variant.rfind("experts", 0) == 0) series = "s-moee";
    if (curve.variant.rfind("vbp", 0) == 0) series = "s-vbp";
    if (curve.variant.rfind("dense", 0) == 0) series = "s-dense";
    loss.curves.push_back({label, series, curve.step, curve.loss});
    if (!curve.learning_rate.empty()) {
      any_rate = true;
      rate.curves.push_back({label, series, curve.step, curve.learning_rate});
    }
    keys += key("curve " + series, label);
    if (curve.seconds) times += fmt::format(" {}: {}.", label, duration_text(curve.seconds));
    thinned = thinned || curve.loss.size() > kCurvePoints;
    longest = std::max(longest, curve.loss.size());
  }
  const std::size_t stride = (longest + kCurvePoints - 1) / kCurvePoints;
  std::string html = "<section>\n<h2>Fine-tuning</h2>\n<div class=\"pair\">\n";
  html += figure(draw_lines(loss) + "<div class=\"keys\">" + keys + "</div>",
                 "Loss on the training batches." +
                     (thinned ? fmt::format(" Each point is the mean of {} recorded steps.", stride) : "") +
                     escape_html(times),
                 figures);
  if (any_rate) html += figure(draw_lines(rate), "Learning rate.", figures);
  return html + "</div>\n</section>\n";
}

std::string time_section(const Results& results, int& figures) {
  if (results.time.empty()) return {};
  double spent = 0, reused = 0;
  for (const StageTime& stage : results.time)
    (stage.reused ? reused : spent) += std::max(0.0, stage.seconds.value_or(0));
  std::string caption = "Wall-clock time of each stage. This run: " + duration_text(spent) + ".";
  if (reused > 0) {
    caption += " Dashed bars were reused from an earlier run, which spent " + duration_text(reused) + " on them.";
  }
  return "<section>\n<h2>Where the time went</h2>\n" +
         figure(draw_times(results.time), escape_html(caption), figures, "times") + "</section>\n";
}

std::string origin_section(const Results& results) {
  std::string html;
  if (!results.data.empty()) html += "<h3>Data</h3>\n" + data_table(results.data);

  TextPairs facts;
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty() && value != "-") facts.emplace_back(name, value);
  };
  add("model", results.model.name);
  std::string shape;
  const auto dimension = [&](const char* name, Count value) {
    if (value) shape += fmt::format("{}{} {}", shape.empty() ? "" : ", ", name, count_text(value));
  };
  dimension("depth", results.model.depth);
  dimension("width", results.model.width);
  dimension("hidden", results.model.hidden);
  dimension("tokens", results.model.tokens);
  dimension("classes", results.model.classes);
  dimension("parameters", results.model.parameters);
  if (results.model.macs_per_image) {
    shape += fmt::format("{}MACs per image {}", shape.empty() ? "" : ", ",
                         unit_for(results.model.macs_per_image).with_prefix(results.model.macs_per_image));
  }
  add("shape", shape);
  add("run", results.run.name);
  add("folder", results.run.folder);
  add("device", results.run.device);
  add("ranks", count_text(results.run.ranks));
  add("threads per rank", count_text(results.run.threads_per_rank));
  std::string hosts;
  for (const std::string& host : results.run.hosts) hosts += (hosts.empty() ? "" : ", ") + host;
  add("hosts", hosts);
  add("program", results.program_version);
  add("created", results.created);
  if (!facts.empty()) {
    HtmlTable table({{""}, {""}}, false);
    for (const auto& [name, value] : facts) {
      table.add({{escape_html(name), {}, true}, {"<span class=\"wrap\">" + escape_html(value) + "</span>", {}}});
    }
    html += "<h3>Model and machine</h3>\n" + table.html();
  }
  if (!results.files.empty()) html += "<h3>Files</h3>\n" + pairs_table(results.files, "File", "Path");
  if (!results.settings.empty()) {
    html += fmt::format("<h3>Settings</h3>\n<details><summary>All {} settings of this run</summary>\n{}</details>\n",
                        results.settings.size(), pairs_table(results.settings, "Key", "Value"));
  }
  if (html.empty()) return {};
  return "<section>\n<h2>Where it comes from</h2>\n" + html + "</section>\n";
}

}  // namespace moextract
