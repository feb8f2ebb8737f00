#include "run/run_folder.h"

#include <fmt/ranges.h>

#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/file.h"

namespace moextract::run {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

constexpr const char* kRecord = "run.json";

std::string dotted(std::string pointer) {
  pointer.erase(0, 1);
  for (char& c : pointer) c = c == '/' ? '.' : c;
  return pointer;
}

std::vector<std::string> differences(const json& there, const json& here) {
  const json a = there.flatten(), b = here.flatten();
  std::set<std::string> keys;
  for (const auto& [key, value] : a.items()) keys.insert(key);
  for (const auto& [key, value] : b.items()) keys.insert(key);
  std::vector<std::string> lines;
  for (const std::string& key : keys) {
    const std::string old_value = a.contains(key) ? a.at(key).dump() : "nothing";
    const std::string new_value = b.contains(key) ? b.at(key).dump() : "nothing";
    if (old_value != new_value)
      lines.push_back(fmt::format("{} ({} there, {} now)", dotted(key), old_value, new_value));
  }
  return lines;
}

}  // namespace

void claim_run_folder(const fs::path& folder, const json& settings) {
  if (fs::exists(folder / kRecord)) {
    const json record = json::parse(read_text_file(folder / kRecord), nullptr, false);
    if (record.is_discarded() || !record.contains("settings")) {
      fail(ExitCode::conflict,
           "{}: is damaged. Delete it (artefacts are kept elsewhere) or choose another folder by --set run.folder=...",
           (folder / kRecord).string());
    }
    const std::vector<std::string> changed = differences(record.at("settings"), settings);
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
  write_run_record(folder, settings, json::object());
}

void write_run_record(const fs::path& folder, const json& settings, const json& stages) {
  make_folder(folder);
  const json record{{"format", "moextract-run"}, {"format_version", 1}, {"settings", settings}, {"stages", stages}};
  write_file_atomically(folder / kRecord, record.dump(2) + "\n");
}

}  // namespace moextract::run
