#include "app/store_commands.h"

#include <fmt/format.h>

#include <algorithm>

#include "app/run_command.h"
#include "app/submit_command.h"
#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "run/artefact_lock.h"
#include "run/progress.h"
#include "run/run_folder.h"
#include "run/store_survey.h"
#include "stages/invariants.h"
#include "stages/pipeline.h"

namespace moextract::app {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

struct NamedFolder {
  std::string id;
  fs::path folder;
};

struct RunStages {
  fs::path folder;  ///< of the run
  std::vector<NamedFolder> stages;
};

RunStages find_stages(const RunReference& reference) {
  RunStages found;
  if (fs::is_directory(reference.place)) {
    found.folder = reference.place;
    const json record = run::read_run_record(found.folder);  // must outlive the loop over a part of it
    for (const auto& [id, folder] : record.at("stages").items())
      found.stages.push_back({id, folder.get<std::string>()});
    return found;
  }
  stages::RunConfig config;
  stages::read_config(reference.place, reference.settings, config);
  const stages::Pipeline pipeline(config);
  found.folder = run_folder(config, reference.settings);
  for (const run::StageNode& node : pipeline.graph().nodes())
    found.stages.push_back({node.id, pipeline.graph().folder(node.id)});
  return found;
}

std::string bytes_text(double bytes) {
  for (const char* unit : {"B", "KB", "MB", "GB"}) {
    if (bytes < 1000) return fmt::format("{:.3g} {}", bytes, unit);
    bytes /= 1000;
  }
  return fmt::format("{:.3g} TB", bytes);
}

std::string details(const fs::path& folder, run::ArtefactState state, const std::string& why) {
  if (state == run::ArtefactState::done) {
    const json manifest = run::ArtefactStore::manifest_of(folder);
    return fmt::format("{}, {} ranks, finished {}", run::duration_text(manifest.value("seconds", 0.0)),
                       manifest.value("ranks", std::int64_t{1}), manifest.value("finished", "at an unknown time"));
  }
  if (state == run::ArtefactState::damaged) return why;
  const auto holder = run::ArtefactLock::holder(run::lock_path(folder));
  if (holder) {
    return fmt::format("{} {}", holder->text(),
                       run::ArtefactLock::is_gone(*holder) ? "was at it and is gone" : "is at it");
  }
  return "";
}

}  // namespace

std::string artefact_state_text(run::ArtefactState state) {
  switch (state) {
    case run::ArtefactState::absent:
      return "to do";
    case run::ArtefactState::begun:
      return "begun";
    case run::ArtefactState::done:
      return "done";
    case run::ArtefactState::damaged:
      return "damaged, to do again";
  }
  return "?";
}

json stage_folders(const run::StageGraph& graph) {
  json folders = json::object();
  for (const run::StageNode& node : graph.nodes())
    folders[node.id] = fs::absolute(graph.folder(node.id)).lexically_normal().string();
  return folders;
}

void status_command(const RunReference& reference) {
  const RunStages run = find_stages(reference);
  fmt::print("run folder {}{}\n", run.folder.string(), run::is_run_folder(run.folder) ? "" : " (not begun)");
  if (const std::string job = job_text(run.folder); !job.empty()) fmt::print("{}\n", job);
  for (const NamedFolder& stage : run.stages) {
    std::string why;
    const run::ArtefactState state = run::ArtefactStore::state_of(stage.folder, &why);
    fmt::print("{:<28} {:<8} {}\n", stage.id, artefact_state_text(state), details(stage.folder, state, why));
    if (state != run::ArtefactState::absent) fmt::print("{:<28} {:<8} {}\n", "", "", stage.folder.string());
  }
}

std::string progress_token(const RunReference& reference) {
  std::string text;
  for (const NamedFolder& stage : find_stages(reference).stages) {
    std::error_code absent;
    std::vector<std::string> lines;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(stage.folder, absent)) {
      if (!entry.is_regular_file(absent) || is_temporary_name(entry.path())) continue;
      // A checkpoint is written again under its name.
      lines.push_back(fmt::format("{} {} {}\n", entry.path().string(), entry.file_size(absent),
                                  entry.last_write_time(absent).time_since_epoch().count()));
    }
    std::sort(lines.begin(), lines.end());
    for (const std::string& line : lines) text += line;
  }
  return hash_text(text);
}

bool verify_command(const RunReference& reference, bool repair) {
  bool well = true;
  for (const NamedFolder& stage : find_stages(reference).stages) {
    const run::ArtefactState state = run::ArtefactStore::state_of(stage.folder);
    if (state == run::ArtefactState::absent || state == run::ArtefactState::begun) {
      fmt::print("{}: {}\n", stage.id, artefact_state_text(state));
      continue;
    }
    std::vector<std::string> wrong = run::ArtefactStore::verify(stage.folder);
    // Of files that are as they were written: whether they make sense. If not, no part of them is worth keeping.
    const bool whole = wrong.empty();
    if (whole) wrong = stages::broken_invariants(stage.folder, run::ArtefactStore::manifest_of(stage.folder));
    fmt::print("{}: {}\n", stage.id, wrong.empty() ? "ok" : "BROKEN");
    for (const std::string& line : wrong) fmt::print("    {}: {}\n", stage.folder.string(), line);
    if (wrong.empty()) continue;
    well = false;
    if (repair) {
      run::ArtefactStore::invalidate(stage.folder, whole);
      fmt::print("    what is broken was taken away: run again to have it made\n");
    } else {
      fmt::print("    moextract verify --repair takes broken files away (only these), then run again\n");
    }
  }
  return well;
}

void clean_command(const fs::path& store, bool yes) {
  if (!fs::is_directory(store))
    fail(ExitCode::usage, "{}: there is no such store; give its folder by --store", store.string());
  const run::CleanPlan plan = run::plan_clean(store);
  double bytes = 0;
  fmt::print("{} runs refer to the store {}\n", plan.runs.size(), store.string());
  for (const run::StoredArtefact& artefact : plan.unused) {
    bytes += static_cast<double>(artefact.bytes);
    fmt::print("{:<8} {:>9}  {}\n", artefact_state_text(artefact.state),
               bytes_text(static_cast<double>(artefact.bytes)), artefact.folder.string());
  }
  for (const fs::path& path : plan.leftover) fmt::print("{:<8} {:>9}  {}\n", "leftover", "", path.string());
  if (yes) run::clean(plan);
  fmt::print("{} artefacts of {} that no run refers to{}\n", plan.unused.size(), bytes_text(bytes),
             yes ? ": removed" : "; nothing was removed: add --yes");
}

}  // namespace moextract::app
