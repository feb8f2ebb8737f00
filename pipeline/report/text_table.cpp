// The plain-text table printed at the end of a run.
#include "report/text_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "report/headline.h"
#include "report/number_text.h"
#include "report/results.h"

namespace moextract {
namespace {

/// Terminals and log files get printable ASCII only: a label must not be able to send an escape sequence. One '?'
/// stands for each character that is lost.
std::string ascii(const std::string& text) {
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f) {
      result += c;
    } else if (byte < 0x80 || byte >= 0xc0) {  // not the second byte of a UTF-8 character
      result += '?';
    }
  }
  return result;
}

std::string shorten(const std::string& text, std::size_t width) {
  return text.size() <= width ? text : text.substr(0, width - 2) + "..";
}

/// Rows of cells: the first column is flush left and takes what the others leave, the others are flush right.
class Grid {
 public:
  explicit Grid(std::vector<std::string> header) { rows_.push_back(std::move(header)); }
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }

  std::string text() const {
    std::vector<std::size_t> widths(rows_.front().size(), 0);
    for (const auto& row : rows_) {
      for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    }
    std::size_t others = 0;
    for (std::size_t i = 1; i < widths.size(); ++i) others += widths[i] + 2;
    // The numbers need their room; the label gives way.
    if (others + widths[0] > kTextTableWidth) {
      widths[0] = others + 8 > kTextTableWidth ? 8 : kTextTableWidth - others;
    }
    std::string result;
    for (std::size_t r = 0; r < rows_.size(); ++r) {
      std::string line = fmt::format("{:<{}}", shorten(rows_[r][0], widths[0]), widths[0]);
      for (std::size_t i = 1; i < rows_[r].size(); ++i) line += fmt::format("  {:>{}}", rows_[r][i], widths[i]);
      result += shorten(line, kTextTableWidth) + "\n";
      if (r == 0) result += std::string(std::min<std::size_t>(others + widths[0], kTextTableWidth), '-') + "\n";
    }
    return result;
  }

 private:
  std::vector<std::vector<std::string>> rows_;
};

std::string wrap(const std::string& text, const std::string& indent) {
  std::string result, line;
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    std::string word = text.substr(at, end - at);
    at = end + 1;
    if (!line.empty() && line.size() + 1 + word.size() > kTextTableWidth) {
      result += line + "\n";
      line = indent;
      line += word;
    } else {
      line += line.empty() ? word : " " + word;
    }
    for (; line.size() > kTextTableWidth; line.erase(0, kTextTableWidth))
      result += line.substr(0, kTextTableWidth) + "\n";
  }
  return line.empty() ? result : result + line + "\n";
}

std::string number_only(Number share, int decimals) {
  return share ? fixed_text(*share * 100, decimals) : "-";
}

std::string variants_table(const Results& results) {
  std::vector<Number> macs, parameters;
  for (const Variant& variant : results.variants) {
    macs.push_back(variant.macs_per_image);
    parameters.push_back(as_number(variant.parameters));
  }
  const Unit macs_unit = unit_for(macs), parameters_unit = unit_for(parameters);
  const auto titled = [](const char* name, const Unit& unit) {
    return unit.prefix.empty() ? std::string(name) : fmt::format("{} [{}]", name, unit.prefix);
  };
  // The number of images is a column only where it differs: nearly always it is one number, and labels need the room.
  const bool same = std::all_of(results.variants.begin(), results.variants.end(),
                                [&](const Variant& v) { return v.images == results.variants.front().images; });
  std::vector<std::string> header{"variant", "top-1 %",
                                  "s.e.",    "top-5 %",
                                  "kept %",  titled("MACs", macs_unit),
                                  "% dense", titled("params", parameters_unit),
                                  "% dense", "img/s",
                                  "speed"};
  if (!same) header.push_back("images");
  Grid grid(std::move(header));
  const Variant* dense = results.dense();
  for (const Variant& v : results.variants) {
    const auto of_dense = [&](Number value, Number base) { return dense ? number_only(ratio(value, base), 1) : "-"; };
    std::vector<std::string> row{ascii(v.label),
                                 number_only(v.top1(), 2),
                                 number_only(v.top1_standard_error(), 2),
                                 number_only(v.top5(), 2),
                                 of_dense(v.top1(), dense ? dense->top1() : Number()),
                                 macs_unit.text(v.macs_per_image),
                                 of_dense(v.macs_per_image, dense ? dense->macs_per_image : Number()),
                                 parameters_unit.text(as_number(v.parameters)),
                                 of_dense(as_number(v.parameters), dense ? as_number(dense->parameters) : Number()),
                                 rate_text(v.images_per_second),
                                 times_text(ratio(v.images_per_second, dense ? dense->images_per_second : Number()))};
    if (!same) row.push_back(count_text(v.images));
    grid.add(std::move(row));
  }
  return grid.text() + fmt::format("{}s.e.: standard error of top-1 in points; MACs: per image; img/s: measured\n",
                                   same ? count_text(results.variants.front().images) + " images; " : "");
}

std::string layers_table(const Results& results) {
  Grid grid({"layer", "kind", "k", "hidden", "|S_c| min", "max", "sum", "union", "active %", "tokens min %", "max %"});
  for (const Layer& layer : results.layers) {
    // Of the routed experts: the class token's own, with all neurons and a fixed share of the tokens, hides them.
    const std::size_t own = layer.prefix_expert ? 1 : 0;
    Count least, most;
    if (layer.sizes.size() > own) {
      const auto last = layer.sizes.end() - static_cast<std::ptrdiff_t>(own);
      least = *std::min_element(layer.sizes.begin(), last);
      most = *std::max_element(layer.sizes.begin(), last);
    }
    Number rarest, commonest;
    for (std::size_t e = 0; e + own < layer.token_share.size(); ++e) {
      const Number& share = layer.token_share[e];
      if (!share) continue;
      rarest = std::min(*share, rarest.value_or(*share));
      commonest = std::max(*share, commonest.value_or(*share));
    }
    grid.add({count_text(layer.layer), layer.kind.empty() ? "-" : ascii(layer.kind), layer.experts_text(),
              count_text(layer.hidden), count_text(least), count_text(most), count_text(layer.sum_sizes),
              count_text(layer.union_size), number_only(layer.active_share, 1), number_only(rarest, 1),
              number_only(commonest, 1)});
  }
  const bool own =
      std::any_of(results.layers.begin(), results.layers.end(), [](const Layer& l) { return l.prefix_expert; });
  return grid.text() +
         (own ? "k: +1 is the class token's own expert, which |S_c| min, max and tokens leave out\n" : "");
}

std::string time_line(const Results& results) {
  std::string text = "time:";
  for (const StageTime& stage : results.time) {
    text += fmt::format("{} {} {}{}", &stage == &results.time.front() ? "" : ",", ascii(stage.stage),
                        duration_text(stage.seconds), stage.reused ? " (reused from an earlier run)" : "");
  }
  return text;
}

}  // namespace

std::string render_table(const nlohmann::json& json) {
  const Results results = parse_results(json);
  const Headline headline = make_headline(results);
  std::string text;
  if (!results.title.empty()) text += wrap(ascii(results.title), "") + "\n";
  if (!results.variants.empty()) text += variants_table(results) + "\n";
  if (!results.layers.empty()) text += layers_table(results) + "\n";
  text += wrap(ascii(headline.sentence), "");
  for (const std::string& detail : headline.details) text += wrap(ascii(detail), "");
  for (const std::string& note : results.notes) text += wrap("note: " + ascii(note), "  ");
  if (!results.time.empty()) text += wrap(time_line(results), "  ");
  return text;
}

}  // namespace moextract
