// moextract status, verify and clean: what is there, whether it is whole, and what nobody needs any more.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "run/artefact.h"
#include "run/stage_graph.h"

namespace moextract::app {

/// A run by its configuration file and --set, or by its folder.
struct RunReference {
  std::filesystem::path place;
  std::vector<std::string> settings;
};

/// Prints each stage's state, and who works on it.
void status_command(const RunReference& reference);

/// A text that changes whenever a stage, or a file of one, is finished: by it a job tells progress from none.
std::string progress_token(const RunReference& reference);

/// Checks every hash of the artefacts of a run. Prints what is broken and what to do; returns whether all is well.
/// `repair`: takes broken files away, so that the next run makes these again and nothing else.
bool verify_command(const RunReference& reference, bool repair);

/// Prints what no run refers to; removes it if `yes`.
void clean_command(const std::filesystem::path& store, bool yes);

/// "done", "begun", ...
std::string artefact_state_text(run::ArtefactState state);
/// Folder of each stage's artefact, as a run's record holds it.
nlohmann::json stage_folders(const run::StageGraph& graph);

}  // namespace moextract::app
