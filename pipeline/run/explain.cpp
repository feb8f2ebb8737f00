#include "run/explain.h"

#include <fmt/format.h>

#include <optional>

#include "run/json_differences.h"
#include "run/store_survey.h"

namespace moextract::run {
using nlohmann::json;
namespace {

std::vector<std::string> differences(const json& manifest, const ArtefactSpec& spec) {
  std::vector<std::string> lines;
  const std::int64_t version = manifest.value("algorithm_version", std::int64_t{0});
  if (version != spec.algorithm_version) {
    lines.push_back(fmt::format("the stage's algorithm has version {} now, {} there", spec.algorithm_version, version));
  }
  for (const std::string& line : json_differences(manifest.value("settings", json::object()), spec.settings))
    lines.push_back("setting " + line);
  for (const std::string& line : json_differences(manifest.value("inputs", json::object()), json(spec.inputs)))
    lines.push_back("input " + line);
  return lines;
}

}  // namespace

std::vector<std::string> explain(const ArtefactStore& store, const ArtefactSpec& spec) {
  std::string why;
  switch (store.state(spec, &why)) {
    case ArtefactState::done:
      return {"done: " + store.folder(spec).string()};
    case ArtefactState::begun:
      return {"begun by an earlier run that did not end; goes on in " + store.folder(spec).string()};
    case ArtefactState::damaged:
      return {fmt::format("damaged ({}); made again in {}", why, store.folder(spec).string())};
    case ArtefactState::absent:
      break;
  }
  std::vector<std::string> fewest;
  std::string nearest;
  for (const StoredArtefact& there : survey_store(store.root())) {
    if (there.state != ArtefactState::done || there.manifest.value("stage", "") != spec.stage) continue;
    std::vector<std::string> lines = differences(there.manifest, spec);
    if (!nearest.empty() && lines.size() >= fewest.size()) continue;
    fewest = std::move(lines);
    nearest = there.folder.filename().string();
  }
  if (nearest.empty()) return {"to be made: the store holds no finished artefact of this stage"};
  std::vector<std::string> lines{"to be made: differs from " + nearest + ", the nearest that is there, in"};
  for (const std::string& line : fewest) lines.push_back("  " + line);
  return lines;
}

}  // namespace moextract::run
