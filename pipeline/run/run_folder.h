// The folder of one run: which configuration it belongs to and where its artefacts are.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

namespace moextract::run {

/// Claims `folder` for a configuration (the settings that affect results); `stages` are its artefacts' folders, so that
/// the store knows from the start what belongs to a run. Throws UserError (conflict) naming the keys
/// that differ if it belongs to another one; nothing in it is touched then. `defaults`: what a setting is that the
/// record does not know, because an earlier version of the program had no such key.
void claim_run_folder(const std::filesystem::path& folder, const nlohmann::json& settings, const nlohmann::json& stages,
                      const nlohmann::json& defaults = nlohmann::json::object());

/// Whether the folder holds a run's record.
bool is_run_folder(const std::filesystem::path& folder);
/// run.json. Throws UserError (input) if it is absent or damaged.
nlohmann::json read_run_record(const std::filesystem::path& folder);

/// Writes run.json: settings, and for each stage its artefact's folder.
void write_run_record(const std::filesystem::path& folder, const nlohmann::json& settings,
                      const nlohmann::json& stages);

}  // namespace moextract::run
