#include "sweep/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

namespace moextract::sweep {
namespace {

std::string csv_cell(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

std::string csv_cell(Number number) {
  return number ? fmt::format("{}", *number) : "";
}

SeedGroup::Spread spread_of(const std::vector<double>& values) {
  SeedGroup::Spread spread;
  spread.count = values.size();
  if (values.empty()) return spread;
  double sum = 0;
  for (const double value : values) sum += value;
  const double mean = sum / static_cast<double>(values.size());
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  spread.mean = mean;
  if (values.size() > 1) spread.deviation = std::sqrt(squares / static_cast<double>(values.size() - 1));
  spread.low = *std::min_element(values.begin(), values.end());
  spread.high = *std::max_element(values.begin(), values.end());
  return spread;
}

}  // namespace

const std::vector<Measure>& measures() {
  static const std::vector<Measure> all{
      {"top1", "top-1", true, [](const Row& row) { return row.top1; }},
      {"top1_finetuned", "top-1, fine-tuned", true, [](const Row& row) { return row.top1_tuned; }},
      {"macs_per_image", "MACs", false, [](const Row& row) { return row.macs; }},
      {"macs_per_image_finetuned", "MACs, fine-tuned", false, [](const Row& row) { return row.macs_tuned; }},
      {"parameters", "parameters", false, [](const Row& row) { return row.parameters; }},
      {"images_per_second", "images/s", true, [](const Row& row) { return row.speed; }},
      {"images_per_second_finetuned", "images/s, fine-tuned", true, [](const Row& row) { return row.speed_tuned; }}};
  return all;
}

std::vector<Row> rows_of(const PlannedRun& run, const nlohmann::json& json) {
  const Results results = parse_results(json);
  std::vector<Row> rows;
  const auto row_of = [&](const std::string& method) -> Row& {
    for (Row& row : rows) {
      if (row.method == method) return row;
    }
    Row& row = rows.emplace_back();
    row.run = run.id;
    row.method = method;
    row.settings = run.varied;
    return row;
  };
  for (const Variant& variant : results.variants) {
    if (variant.method == "dense" || variant.name == "dense") continue;
    Row& row = row_of(variant.name.substr(0, variant.name.find("-finetuned")));
    if (variant.finetuned) {
      row.top1_tuned = variant.top1();
      row.top1_tuned_error = variant.top1_standard_error();
      row.macs_tuned = variant.macs_per_image;
      row.speed_tuned = variant.images_per_second;
    } else {
      row.top1 = variant.top1();
      row.top1_error = variant.top1_standard_error();
      row.macs = variant.macs_per_image;
      row.speed = variant.images_per_second;
    }
    if (!row.parameters) row.parameters = as_number(variant.parameters);
  }
  if (rows.empty()) row_of("dense");
  if (const Variant* dense = results.dense()) {
    for (Row& row : rows) {
      row.dense_top1 = dense->top1();
      row.dense_macs = dense->macs_per_image;
      row.dense_parameters = as_number(dense->parameters);
      row.dense_speed = dense->images_per_second;
      if (row.method != "dense") continue;
      row.top1 = row.dense_top1;
      row.top1_error = dense->top1_standard_error();
      row.macs = row.dense_macs;
      row.parameters = row.dense_parameters;
      row.speed = row.dense_speed;
    }
  }
  return rows;
}

void mark_pareto(std::vector<Row>& rows) {
  std::vector<Row*> order;
  for (Row& row : rows) {
    row.pareto = false;
    if (row.final_top1() && row.final_macs()) order.push_back(&row);
  }
  std::stable_sort(order.begin(), order.end(), [](const Row* a, const Row* b) {
    if (*a->final_macs() != *b->final_macs()) return *a->final_macs() < *b->final_macs();
    return *a->final_top1() > *b->final_top1();
  });
  double best = -1, best_macs = 0;
  for (Row* row : order) {
    const bool is_equal = *row->final_top1() == best && *row->final_macs() == best_macs;
    if (*row->final_top1() > best) {
      best = *row->final_top1();
      best_macs = *row->final_macs();
      row->pareto = true;
    } else if (is_equal) {
      row->pareto = true;
    }
  }
}

std::vector<std::size_t> best_rows(const std::vector<Row>& rows) {
  std::vector<std::size_t> best;
  for (const Measure& measure : measures()) {
    std::size_t index = SIZE_MAX;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const Number value = measure.value(rows[i]);
      if (!value) continue;
      if (index == SIZE_MAX) {
        index = i;
        continue;
      }
      const double there = *measure.value(rows[index]);
      if (measure.more_is_better ? *value > there : *value < there) index = i;
    }
    best.push_back(index);
  }
  return best;
}

std::vector<SeedGroup> spread_over_seeds(const std::vector<Row>& rows, const std::vector<std::string>& seeds) {
  if (seeds.empty()) return {};
  std::vector<SeedGroup> groups;
  std::vector<std::vector<const Row*>> members;
  std::map<std::string, std::size_t> places;
  for (const Row& row : rows) {
    Settings settings = row.settings;
    std::erase_if(settings,
                  [&](const Setting& s) { return std::find(seeds.begin(), seeds.end(), s.key) != seeds.end(); });
    std::string name = row.method;
    for (const Setting& setting : settings) name += '\n' + setting.key + '=' + setting.value;
    const auto [place, is_new] = places.try_emplace(name, groups.size());
    if (is_new) {
      groups.push_back({row.method, std::move(settings), {}});
      members.emplace_back();
    }
    members[place->second].push_back(&row);
  }
  for (std::size_t g = 0; g < groups.size(); ++g) {
    for (const Measure& measure : measures()) {
      std::vector<double> values;
      for (const Row* row : members[g]) {
        if (const Number value = measure.value(*row)) values.push_back(*value);
      }
      groups[g].spreads.push_back(spread_of(values));
    }
  }
  return groups;
}

std::string rows_csv(const std::vector<Row>& rows, const std::vector<std::string>& varied) {
  std::vector<std::string> head{"run", "method"};
  for (const std::string& key : varied) head.push_back(csv_cell(key));
  head.emplace_back("dense_top1");
  for (const Measure& measure : measures()) head.push_back(measure.key);
  for (const char* name :
       {"top1_standard_error", "top1_finetuned_standard_error", "macs_share", "parameters_share", "pareto"})
    head.emplace_back(name);
  std::string csv = fmt::format("{}\n", fmt::join(head, ","));
  for (const Row& row : rows) {
    std::vector<std::string> cells{row.run, row.method};
    for (const std::string& key : varied) {
      const auto found =
          std::find_if(row.settings.begin(), row.settings.end(), [&](const Setting& s) { return s.key == key; });
      cells.push_back(found == row.settings.end() ? "" : csv_cell(found->value));
    }
    cells.push_back(csv_cell(row.dense_top1));
    for (const Measure& measure : measures()) cells.push_back(csv_cell(measure.value(row)));
    for (const Number number : {row.top1_error, row.top1_tuned_error, ratio(row.final_macs(), row.dense_macs),
                                ratio(row.parameters, row.dense_parameters)})
      cells.push_back(csv_cell(number));
    cells.emplace_back(row.pareto ? "yes" : "no");
    csv += fmt::format("{}\n", fmt::join(cells, ","));
  }
  return csv;
}

std::string groups_csv(const std::vector<SeedGroup>& groups) {
  if (groups.empty()) return "";
  std::string csv = "method";
  for (const Setting& setting : groups.front().settings) csv += fmt::format(",{}", csv_cell(setting.key));
  for (const Measure& measure : measures()) {
    for (const char* part : {"n", "mean", "sd", "min", "max"}) csv += fmt::format(",{}_{}", measure.key, part);
  }
  csv += "\n";
  for (const SeedGroup& group : groups) {
    csv += group.method;
    for (const Setting& setting : group.settings) csv += fmt::format(",{}", csv_cell(setting.value));
    for (const SeedGroup::Spread& spread : group.spreads) {
      csv += fmt::format(",{},{},{},{},{}", spread.count, csv_cell(spread.mean), csv_cell(spread.deviation),
                         csv_cell(spread.low), csv_cell(spread.high));
    }
    csv += "\n";
  }
  return csv;
}

}  // namespace moextract::sweep
