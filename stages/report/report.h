// Stage report: gathers what the stages left into results.json and one HTML page.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "run/stage_graph.h"
#include "stages/pipeline.h"

namespace moextract::stages {

struct ReportFacts {
  std::string program_version;
  int ranks = 1, threads_per_rank = 1;
  std::vector<std::string> hosts;
  std::vector<run::StageOutcome> outcomes;  ///< of this call; stages found are marked as reused
};

/// Writes results.json and report.html into `folder` (format: docs/formats.md) and returns the plain-text table. Reads
/// finished stages only; what has not run yet is left out. Rank 0 only, not collective.
std::string write_report(const Pipeline& pipeline, const ReportFacts& facts, const std::filesystem::path& folder);

}  // namespace moextract::stages
