#include "run/store_survey.h"

#include <algorithm>
#include <chrono>
#include <set>

#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "run/artefact_lock.h"
#include "run/run_folder.h"

namespace moextract::run {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

constexpr const char* kRuns = ".runs";
constexpr const char* kWatch = ".watch";
constexpr auto kOldWatch = std::chrono::hours(24 * 7);

bool hidden(const fs::path& path) {
  return path.filename().string().starts_with(".");
}

/// "<name>-<16 hex digits>": everything else in the folder is somebody else's and is not touched.
bool is_artefact_name(const std::string& name) {
  const std::size_t dash = name.rfind('-');
  return dash != std::string::npos && name.size() - dash == 17 &&
         std::all_of(name.begin() + static_cast<std::ptrdiff_t>(dash) + 1, name.end(),
                     [](unsigned char c) { return std::isxdigit(c) != 0; });
}

bool in_use(const fs::path& artefact_folder) {
  const std::optional<LockHolder> holder = ArtefactLock::holder(lock_path(artefact_folder));
  return holder && !ArtefactLock::is_gone(*holder);
}

std::vector<fs::path> children(const fs::path& folder) {
  std::vector<fs::path> all;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) all.push_back(entry.path());
  std::sort(all.begin(), all.end());
  return all;
}

}  // namespace

fs::path lock_path(const fs::path& artefact_folder) {
  return artefact_folder.string() + ".lock";
}

fs::path watch_root(const fs::path& store) {
  return store / kWatch;
}

std::vector<StoredArtefact> survey_store(const fs::path& store) {
  std::vector<StoredArtefact> all;
  for (const fs::path& folder : children(store)) {
    if (hidden(folder) || !fs::is_directory(folder) || !is_artefact_name(folder.filename().string())) continue;
    StoredArtefact artefact;
    artefact.folder = folder;
    artefact.state = ArtefactStore::state_of(folder);
    if (artefact.state == ArtefactState::done) artefact.manifest = ArtefactStore::manifest_of(folder);
    std::error_code error;
    for (const fs::directory_entry& file : fs::recursive_directory_iterator(folder, error)) {
      const auto bytes = file.is_regular_file(error) ? file.file_size(error) : 0;
      if (!error) artefact.bytes += bytes;
    }
    all.push_back(std::move(artefact));
  }
  return all;
}

void register_run(const fs::path& store, const fs::path& run_folder) {
  const std::string place = fs::absolute(run_folder).lexically_normal().string();
  const fs::path record = store / kRuns / (hash_text(place).substr(0, 16) + ".txt");
  if (fs::exists(record)) return;
  make_folder(store / kRuns);
  write_file_atomically(record, place + "\n");
}

CleanPlan plan_clean(const fs::path& store) {
  CleanPlan plan;
  std::set<fs::path> runs;
  for (const fs::path& record : children(store / kRuns)) {
    std::string place = read_text_file(record);
    while (!place.empty() && place.back() == '\n') place.pop_back();
    if (is_run_folder(place)) {
      runs.insert(place);
    } else {
      plan.leftover.push_back(record);
    }
  }
  for (const fs::path& folder : children(fs::absolute(store).lexically_normal().parent_path())) {
    if (is_run_folder(folder)) runs.insert(folder);
  }
  std::set<std::string> needed;
  for (const fs::path& run : runs) {
    const json record = read_run_record(run);  // must outlive the loop over a part of it
    for (const auto& [id, folder] : record.at("stages").items())
      needed.insert(fs::path(folder.get<std::string>()).filename().string());
    plan.runs.push_back(run);
  }
  for (StoredArtefact& artefact : survey_store(store)) {
    if (!needed.contains(artefact.folder.filename().string()) && !in_use(artefact.folder))
      plan.unused.push_back(std::move(artefact));
  }
  for (const fs::path& file : children(store)) {
    if (file.extension() != ".lock" && file.extension() != ".takeover") continue;
    const std::optional<LockHolder> holder = ArtefactLock::holder(file);
    if (holder && ArtefactLock::is_gone(*holder)) plan.leftover.push_back(file);
  }
  for (const fs::path& folder : children(watch_root(store))) {
    std::error_code error;
    const auto age = fs::file_time_type::clock::now() - fs::last_write_time(folder, error);
    if (!error && age > kOldWatch) plan.leftover.push_back(folder);
  }
  return plan;
}

void clean(const CleanPlan& plan) {
  const auto remove = [](const fs::path& path) {
    std::error_code error;
    fs::remove_all(path, error);
    if (error) fail(ExitCode::storage, "{}: cannot be removed ({})", path.string(), error.message());
  };
  for (const StoredArtefact& artefact : plan.unused) {
    // DONE first: half an artefact must not look like a whole one if this is interrupted.
    std::error_code ignored;
    fs::remove(artefact.folder / "DONE", ignored);
    remove(artefact.folder);
  }
  for (const fs::path& path : plan.leftover) remove(path);
}

}  // namespace moextract::run
