// What the actions of `moextract sweep` share: the plan, the folder and how far it is.
#pragma once

#include <spdlog/logger.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "run/artefact_lock.h"
#include "sweep/plan.h"
#include "sweep/sweep_folder.h"

namespace moextract::app {

/// What every action begins with: plans, checks whose folder it is, and looks how far it is. Writes nothing.
struct Sweep {
  explicit Sweep(const std::filesystem::path& file);
  sweep::Plan plan;
  sweep::SweepFolder folder;
  sweep::SweepStatus status;
};

void print_head(const Sweep& s);
/// A run that looks done is looked at closely before it is skipped: its artefacts' files may be gone.
void look_closely(Sweep& s);
/// One process at a time runs or submits a sweep. Throws UserError (conflict) where another one does.
std::unique_ptr<run::ArtefactLock> lock_sweep(const sweep::SweepFolder& folder, spdlog::logger& log);
/// Writes the configuration of each task's run, where it is not there yet. `threads` as in stages::run_config_text.
void write_configs(const Sweep& s, const std::vector<sweep::Task>& tasks, int threads);

}  // namespace moextract::app
