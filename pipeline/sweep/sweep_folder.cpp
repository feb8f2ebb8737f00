#include "sweep/sweep_folder.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "core/json_text.h"
#include "run/artefact_lock.h"
#include "run/store_survey.h"

namespace moextract::sweep {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

constexpr const char* kRecord = "sweep.json";
constexpr std::string_view kErrorMark = "moextract: error: ";

/// The last part of a file, which is enough to find its last message.
std::string tail(const fs::path& file) {
  constexpr std::streamoff kBytes = 16384;
  std::ifstream stream(file, std::ios::binary | std::ios::ate);
  if (!stream) return "";
  const std::streamoff size = stream.tellg();
  stream.seekg(std::max<std::streamoff>(0, size - kBytes));
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

std::string line_at(const std::string& text, std::size_t at) {
  return text.substr(at, text.find('\n', at) - at);
}

}  // namespace

std::string state_text(RunState state) {
  switch (state) {
    case RunState::to_do:
      return "to do";
    case RunState::running:
      return "running";
    case RunState::interrupted:
      return "to go on";
    case RunState::failed:
      return "failed";
    case RunState::done:
      return "done";
  }
  return "?";
}

std::size_t SweepStatus::count(RunState state) const {
  return static_cast<std::size_t>(
      std::count_if(runs.begin(), runs.end(), [&](const RunStatus& run) { return run.state == state; }));
}

void SweepFolder::check_owner(const SweepFile& file) const {
  if (!fs::exists(root_ / kRecord)) {
    if (fs::exists(root_) && !(fs::is_directory(root_) && fs::is_empty(root_))) {
      fail(ExitCode::conflict, "{}: is there already and no sweep's folder; give another folder in {}", root_.string(),
           file.file.string());
    }
    return;
  }
  const json record = parse_json(read_text_file(root_ / kRecord));
  if (!record.is_object() || !record.contains("file") || !record["file"].is_string()) {
    fail(ExitCode::conflict, "{}: is damaged. Delete this file; runs that are done are found again",
         (root_ / kRecord).string());
  }
  const fs::path owner = record["file"].get<std::string>();
  std::error_code gone;
  if (owner == fs::absolute(file.file).lexically_normal() || fs::equivalent(owner, file.file, gone)) return;
  fail(ExitCode::conflict,
       "{}: holds the sweep of {}. Give {} another name or folder; where the file was only moved, delete {} (runs that "
       "are done are found again)",
       root_.string(), owner.string(), file.file.string(), (root_ / kRecord).string());
}

void SweepFolder::claim(const Plan& plan) const {
  check_owner(plan.file);
  for (const char* part : {"configs", "runs", "logs", "state"}) make_folder(root_ / part);
  json runs = json::object();
  for (const PlannedRun& run : plan.runs) {
    json& settings = runs[run.id] = json::object();
    for (const Setting& setting : run.varied) settings[setting.key] = setting.value;
  }
  const json record{{"format", "moextract-sweep"},
                    {"format_version", 1},
                    {"file", fs::absolute(plan.file.file).lexically_normal().string()},
                    {"name", plan.file.name},
                    {"base", plan.file.base.string()},
                    {"hash", plan.file.hash},
                    {"runs", runs}};
  write_file_atomically(root_ / kRecord, record.dump(2) + "\n");
}

std::optional<int> SweepFolder::exit_code(const std::string& task) const {
  std::ifstream stream(exit_file(task));
  int code = 0;
  if (stream >> code) return code;
  return std::nullopt;
}

void SweepFolder::write_exit_code(const std::string& task, int code) const {
  write_file_atomically(exit_file(task), std::to_string(code) + "\n");
}

void SweepFolder::forget_exit_code(const std::string& task) const {
  std::error_code ignored;
  fs::remove(exit_file(task), ignored);
}

std::string SweepFolder::cause(const std::string& task, int code) const {
  const std::string text = tail(log(task));
  const std::size_t at = text.rfind(kErrorMark);
  if (at != std::string::npos) return line_at(text, at + kErrorMark.size());
  if (code > 128) return fmt::format("ended by signal {}; see {}", code - 128, log(task).string());
  return fmt::format("exit code {}; see {}", code, log(task).string());
}

RunStatus SweepFolder::status_of(const Plan& plan, const PlannedRun& run, const std::vector<bool>& stage_done) const {
  const bool all_there =
      std::all_of(run.stages.begin(), run.stages.end(), [&](std::size_t s) { return stage_done[s]; });
  if (all_there && fs::exists(this->run(run.id) / "results.json")) return {RunState::done, ""};
  std::optional<std::string> failure;
  for (const std::size_t s : run.stages) {
    if (stage_done[s]) continue;
    const PlannedStage& stage = plan.stages[s];
    if (const auto holder = run::ArtefactLock::holder(run::lock_path(stage.folder));
        holder && !run::ArtefactLock::is_gone(*holder)) {
      const std::string who = fmt::format("{} by {}", stage.id, holder->text());
      return stage.runs.size() > 1 ? RunStatus{RunState::to_do, "waits for " + who} : RunStatus{RunState::running, who};
    }
    if (stage.runs.size() < 2 || failure) continue;
    const std::optional<int> code = exit_code(stage.task);
    if (code && *code != 0 && *code != static_cast<int>(ExitCode::resume)) {
      failure = fmt::format("{} failed: {}", stage.id, cause(stage.task, *code));
    }
  }
  const std::optional<int> code = exit_code(run.id);
  if (code == static_cast<int>(ExitCode::resume)) return {RunState::interrupted, "run the sweep again"};
  if (code && *code != 0) return {RunState::failed, cause(run.id, *code)};
  if (failure) return {RunState::failed, *failure};
  return {RunState::to_do, ""};
}

SweepStatus SweepFolder::status(const Plan& plan) const {
  SweepStatus status;
  for (const PlannedStage& stage : plan.stages) status.stage_done.push_back(fs::exists(stage.folder / "DONE"));
  for (const PlannedRun& run : plan.runs) {
    status.runs.push_back(status_of(plan, run, status.stage_done));
    status.run_done.push_back(status.runs.back().state == RunState::done);
  }
  return status;
}

}  // namespace moextract::sweep
