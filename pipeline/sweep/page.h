// The table of a sweep as a page and as text.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "sweep/sweep_folder.h"
#include "sweep/table.h"

namespace moextract::sweep {

struct SweepResults {
  const Plan& plan;
  const SweepStatus& status;
  std::vector<Row> rows;  ///< with the front marked
  std::vector<SeedGroup> groups;
};

/// One HTML page that needs nothing beside it.
std::string render_page(const SweepResults& results);
/// The best of each column and the front, for a terminal; at most 100 columns wide where labels allow.
std::string render_text(const SweepResults& results);

}  // namespace moextract::sweep
