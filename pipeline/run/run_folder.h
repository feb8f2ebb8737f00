// The folder of one run: which configuration it belongs to and where its artefacts are.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

namespace moextract::run {

/// Claims `folder` for a configuration (the settings that affect results). Throws UserError (conflict) naming the keys
/// that differ if it belongs to another one; nothing in it is touched then.
void claim_run_folder(const std::filesystem::path& folder, const nlohmann::json& settings);

/// Writes run.json: settings, and for each stage its artefact's folder.
void write_run_record(const std::filesystem::path& folder, const nlohmann::json& settings,
                      const nlohmann::json& stages);

}  // namespace moextract::run
