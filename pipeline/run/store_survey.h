// The store as a whole: what lies in it, which runs refer to it, what nobody needs any more.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "run/artefact.h"

namespace moextract::run {

struct StoredArtefact {
  std::filesystem::path folder;
  ArtefactState state = ArtefactState::absent;
  nlohmann::json manifest;   ///< null unless done
  std::uintmax_t bytes = 0;  ///< of all its files
};

/// All artefact folders, sorted by name. An absent store holds none.
std::vector<StoredArtefact> survey_store(const std::filesystem::path& store);

/// Remembers in the store that the run in `run_folder` refers to it, for clean. Throws UserError (storage).
void register_run(const std::filesystem::path& store, const std::filesystem::path& run_folder);

struct CleanPlan {
  std::vector<StoredArtefact> unused;  ///< no run's record names them, and no live process makes them
  std::vector<std::filesystem::path>
      leftover;                             ///< records of runs that are gone, locks of dead processes, watch folders
  std::vector<std::filesystem::path> runs;  ///< whose records were found
};

/// Runs are those registered, and those in the folder that the store lies in. Throws UserError (input) if a run's
/// record cannot be read: what it refers to would be taken for unused.
CleanPlan plan_clean(const std::filesystem::path& store);
/// Removes what the plan names. Throws UserError (storage).
void clean(const CleanPlan& plan);

/// Where an artefact's lock lies.
std::filesystem::path lock_path(const std::filesystem::path& artefact_folder);
/// Folder below the store for what runs tell each other while they run.
std::filesystem::path watch_root(const std::filesystem::path& store);

}  // namespace moextract::run
