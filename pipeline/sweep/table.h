// The results of a sweep's runs side by side: rows, the Pareto front, the best of each column, the spread over seeds.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "report/results.h"
#include "sweep/plan.h"

namespace moextract::sweep {

/// One method ("experts", "vbp") of one run, before and after fine-tuning.
struct Row {
  std::string run, method;
  Settings settings;                                                  ///< the varied ones
  Number dense_top1, top1, top1_error, top1_tuned, top1_tuned_error;  ///< shares of the images
  Number dense_macs, macs, macs_tuned;                                ///< of one image
  Number dense_parameters, parameters;
  Number dense_speed, speed, speed_tuned;  ///< images a second, as measured during evaluation
  bool pareto = false;

  /// After fine-tuning where there is one, otherwise before.
  Number final_top1() const { return top1_tuned ? top1_tuned : top1; }
  Number final_macs() const { return top1_tuned && macs_tuned ? macs_tuned : macs; }
};

/// A column of numbers, and which end of it is better.
struct Measure {
  std::string key, title;
  bool more_is_better = true;
  std::function<Number(const Row&)> value;
};
/// Those of the table, in its order.
const std::vector<Measure>& measures();

/// Rows of one run, from its results.json. Throws UserError (input).
std::vector<Row> rows_of(const PlannedRun& run, const nlohmann::json& results);

/// Marks the rows to which no other row is superior: none has at least the accuracy for at most the MACs, and one of
/// them strictly. By the final numbers; rows that lack one of them are never marked.
void mark_pareto(std::vector<Row>& rows);

/// For each measure the index of the best row, SIZE_MAX where no row has the number. The first of equals.
std::vector<std::size_t> best_rows(const std::vector<Row>& rows);

/// Rows that differ in seeds alone.
struct SeedGroup {
  std::string method;
  Settings settings;  ///< without the seeds
  struct Spread {
    std::size_t count = 0;              ///< rows that have the number
    Number mean, deviation, low, high;  ///< deviation: of the sample, n - 1; nothing for fewer than two
  };
  std::vector<Spread> spreads;  ///< one a measure
};
/// In the order of their first rows; empty if `seeds` is.
std::vector<SeedGroup> spread_over_seeds(const std::vector<Row>& rows, const std::vector<std::string>& seeds);

/// Comma-separated, one line of names, numbers with all their digits, nothing where a number is unknown.
std::string rows_csv(const std::vector<Row>& rows, const std::vector<std::string>& varied);
std::string groups_csv(const std::vector<SeedGroup>& groups);

}  // namespace moextract::sweep
