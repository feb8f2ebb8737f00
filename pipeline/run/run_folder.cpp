#include "run/run_folder.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "core/json_text.h"
#include "run/json_differences.h"

namespace moextract::run {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

constexpr const char* kRecord = "run.json";

/// Adds what `settings` lacks.
void fill_in(json& settings, const json& defaults) {
  for (const auto& [key, value] : defaults.items()) {
    if (!settings.contains(key)) {
      settings[key] = value;
    } else if (settings[key].is_object() && value.is_object()) {
      fill_in(settings[key], value);
    }
  }
}

}  // namespace

void claim_run_folder(const fs::path& folder, const json& settings, const json& stages, const json& defaults) {
  if (fs::exists(folder / kRecord)) {
    json record = parse_json(read_text_file(folder / kRecord));
    if (!record.is_object() || !record.contains("settings") || !record["settings"].is_object()) {
      fail(ExitCode::conflict,
           "{}: is damaged. Delete it (artefacts are kept elsewhere) or choose another folder by --set run.folder=...",
           (folder / kRecord).string());
    }
    fill_in(record["settings"], defaults);
    const std::vector<std::string> changed = json_differences(record.at("settings"), settings);
    if (!changed.empty()) {
      const std::size_t shown = std::min<std::size_t>(changed.size(), 5);
      fail(ExitCode::conflict,
           "{}: holds a run of another configuration: {}{}. Nothing was touched. Choose another folder by --set "
           "run.folder=..., or "
           "delete this one (stages that both share are found again)",
           folder.string(), fmt::join(changed.begin(), changed.begin() + static_cast<std::ptrdiff_t>(shown), ", "),
           changed.size() > shown ? fmt::format(" and {} more", changed.size() - shown) : "");
    }
    return;
  }
  if (fs::exists(folder) && !fs::is_empty(folder)) {
    fail(ExitCode::conflict, "{}: is not empty and not a run's folder. Choose another one by --set run.folder=...",
         folder.string());
  }
  write_run_record(folder, settings, stages);
}

bool is_run_folder(const fs::path& folder) {
  return fs::exists(folder / kRecord);
}

json read_run_record(const fs::path& folder) {
  const json record = parse_json(read_text_file(folder / kRecord));
  if (!record.is_object() || !record.contains("settings") || !record.contains("stages") ||
      !record["stages"].is_object()) {
    fail(ExitCode::input, "{}: is damaged. Run the configuration again with run.folder={}, or delete the folder",
         (folder / kRecord).string(), folder.string());
  }
  return record;
}

void write_run_record(const fs::path& folder, const json& settings, const json& stages) {
  make_folder(folder);
  const json record{{"format", "moextract-run"}, {"format_version", 1}, {"settings", settings}, {"stages", stages}};
  write_file_atomically(folder / kRecord, record.dump(2) + "\n");
}

}  // namespace moextract::run
