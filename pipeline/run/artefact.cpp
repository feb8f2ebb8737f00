#include "run/artefact.h"

#include <fmt/chrono.h>
#include <algorithm>
#include <chrono>

#include "comm/watched.h"
#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "core/json_text.h"

namespace moextract::run {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

constexpr const char* kManifest = "manifest.json";
constexpr const char* kDone = "DONE";

std::string now_utc() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now())));
}

/// Data files of an artefact folder, by name relative to it, sorted.
std::map<std::string, fs::path> data_files(const fs::path& folder) {
  std::map<std::string, fs::path> files;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().lexically_relative(folder).generic_string();
    if (entry.is_regular_file() && name != kManifest && name != kDone) files.emplace(name, entry.path());
  }
  return files;
}

/// A manifest may come from anywhere: what it names is only opened below its folder.
bool is_inside(const fs::path& name) {
  return !name.empty() && name.is_relative() &&
         std::none_of(name.begin(), name.end(), [](const fs::path& part) { return part == ".."; });
}

json read_manifest(const fs::path& folder) {
  const json manifest = parse_json(read_text_file(folder / kManifest));
  if (manifest.is_discarded() || !manifest.is_object() || !manifest.contains("files") || !manifest.contains("key")) {
    fail(ExitCode::input, "{}: is cut short or damaged. Delete the folder {} and run again",
         (folder / kManifest).string(), folder.string());
  }
  for (const auto& [name, facts] : manifest.at("files").items()) {
    if (!is_inside(name))
      fail(ExitCode::input, "{}: names the file '{}', which is not in its folder. Delete the folder {} and run again",
           (folder / kManifest).string(), name, folder.string());
  }
  return manifest;
}

/// Whether key and folder follow from what the manifest says of stage, settings and inputs.
bool has_its_address(const fs::path& folder, const json& manifest) {
  const ArtefactSpec spec{manifest.at("stage"), static_cast<int>(manifest.at("algorithm_version").get<std::int64_t>()),
                          manifest.at("settings"), manifest.at("inputs").get<std::map<std::string, std::string>>()};
  return spec.key() == manifest.at("key").get<std::string>() && spec.folder_name() == folder.filename().string();
}

/// `key`: all of it, or its beginning.
ArtefactState state_in(const fs::path& place, const std::string& key, std::string* why) {
  if (!fs::exists(place)) return ArtefactState::absent;
  if (!fs::exists(place / kDone)) return ArtefactState::begun;
  const auto damaged = [&](const std::string& reason) {
    if (why != nullptr) *why = reason;
    return ArtefactState::damaged;
  };
  try {
    const json manifest = read_manifest(place);
    if (!manifest.at("key").get<std::string>().starts_with(key)) return damaged("manifest.json is of another artefact");
    for (const auto& [name, facts] : manifest.at("files").items()) {
      std::error_code error;
      const auto size = fs::file_size(place / name, error);
      if (error) return damaged(name + " is missing");
      if (size != facts.at("bytes").get<std::uintmax_t>())
        return damaged(name + " has another size than when it was written");
    }
  } catch (const std::exception& error) {
    return damaged(error.what());
  }
  return ArtefactState::done;
}

}  // namespace

std::string ArtefactSpec::key() const {
  // The text of one object with these four members. nlohmann's objects are sorted by key: equal content gives equal
  // text. Put together by hand, because a sweep asks for tens of thousands and an object would be a copy of all
  // settings.
  return hash_text(fmt::format(R"({{"algorithm_version":{},"inputs":{},"settings":{},"stage":{}}})", algorithm_version,
                               json(inputs).dump(), settings.dump(), json(stage).dump()));
}

std::string ArtefactSpec::folder_name() const {
  return stage + "-" + key().substr(0, 16);
}

ArtefactStore::ArtefactStore(fs::path root) : root_(std::move(root)) {}

ArtefactState ArtefactStore::state(const ArtefactSpec& spec, std::string* why) const {
  return state_in(folder(spec), spec.key(), why);
}

ArtefactState ArtefactStore::state_of(const fs::path& folder, std::string* why) {
  const std::string name = folder.filename().string();
  return state_in(folder, name.substr(name.rfind('-') + 1), why);
}

fs::path ArtefactStore::begin(const ArtefactSpec& spec) const {
  const fs::path place = folder(spec);
  make_folder(place);
  invalidate(place);
  return place;
}

void ArtefactStore::invalidate(const fs::path& folder, bool all) {
  if (!fs::exists(folder / kDone)) return;
  std::map<std::string, fs::path> wrong = data_files(folder);
  try {
    const std::string text = read_text_file(folder / kManifest);
    if (!all && hash_text(text) + "\n" == read_text_file(folder / kDone)) {
      const json manifest = read_manifest(folder);
      const bool of_this_place = has_its_address(folder, manifest);
      for (const auto& [name, facts] : manifest.at("files").items()) {
        if (!of_this_place || !fs::exists(folder / name)) continue;
        comm::note_progress();
        if (hash_file(folder / name) == facts.at("xxh3_128").get<std::string>()) wrong.erase(name);
      }
    }
  } catch (const std::exception&) {
    wrong = data_files(folder);
  }
  // DONE goes first: if this is interrupted, the folder is one that has been begun.
  std::vector<fs::path> gone{folder / kDone, folder / kManifest};
  for (const auto& [name, path] : wrong) gone.push_back(path);
  for (const fs::path& path : gone) {
    std::error_code error;
    fs::remove(path, error);
    if (error) fail(ExitCode::storage, "{}: cannot be removed ({})", path.string(), error.message());
  }
}

void ArtefactStore::finish(const ArtefactSpec& spec, const Provenance& provenance) const {
  const fs::path place = folder(spec);
  json files = json::object();
  for (const auto& [name, path] : data_files(place)) {
    if (is_temporary_name(path)) {
      fs::remove(path);
      continue;
    }
    files[name] = {{"bytes", fs::file_size(path)}, {"xxh3_128", hash_file(path)}};
    comm::note_progress();  // the other ranks wait, and there may be terabytes
  }
  const json manifest{{"format", "moextract-manifest"},
                      {"format_version", 1},
                      {"stage", spec.stage},
                      {"key", spec.key()},
                      {"algorithm_version", spec.algorithm_version},
                      {"settings", spec.settings},
                      {"inputs", spec.inputs},
                      {"files", files},
                      {"counts", provenance.counts},
                      {"program_version", provenance.program_version},
                      {"ranks", provenance.ranks},
                      {"threads_per_rank", provenance.threads},
                      {"device", provenance.device},
                      {"hosts", provenance.hosts},
                      {"seconds", provenance.seconds},
                      {"finished", now_utc()}};
  const std::string text = manifest.dump(2) + "\n";
  write_file_atomically(place / kManifest, text);
  write_file_atomically(place / kDone, hash_text(text) + "\n");
}

json ArtefactStore::manifest_of(const fs::path& folder) {
  return read_manifest(folder);
}

std::vector<std::string> ArtefactStore::verify(const fs::path& folder) {
  std::vector<std::string> wrong;
  if (!fs::exists(folder / kDone)) return {"DONE is missing: the stage has not ended"};
  try {
    const std::string text = read_text_file(folder / kManifest);
    if (hash_text(text) + "\n" != read_text_file(folder / kDone))
      wrong.push_back("manifest.json does not have the hash that DONE holds");
    const json manifest = read_manifest(folder);
    for (const auto& [name, facts] : manifest.at("files").items()) {
      if (!fs::exists(folder / name)) {
        wrong.push_back(name + " is missing");
      } else if (hash_file(folder / name) != facts.at("xxh3_128").get<std::string>()) {
        wrong.push_back(name + " has other content than when it was written");
      }
    }
    if (!has_its_address(folder, manifest))
      wrong.push_back("its address does not follow from the stage, settings and inputs in manifest.json");
    for (const auto& [name, path] : data_files(folder)) {
      if (!manifest.at("files").contains(name)) wrong.push_back(name + " was not written by the stage");
    }
  } catch (const std::exception& error) {
    wrong.push_back(error.what());
  }
  return wrong;
}

}  // namespace moextract::run
