// A sweep file into a plan: each combination becomes a configuration, each configuration a graph of stages.
#pragma once

#include <filesystem>
#include <string>

#include "sweep/plan.h"

namespace moextract::stages {

/// Reads the sweep file and its base, and plans every run; writes nothing. Throws UserError (config, input, ...): for
/// what is wrong in one run alone, the message names the run's settings.
sweep::Plan plan_sweep(const std::filesystem::path& file);

/// The whole configuration of one run as a file that `moextract run` reads from any folder; `folder` is the run's own,
/// `threads` is run.threads (0: as the configuration says).
std::string run_config_text(const sweep::Plan& plan, const sweep::PlannedRun& run, const std::filesystem::path& folder,
                            int threads);

}  // namespace moextract::stages
