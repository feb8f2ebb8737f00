#include "sweep/sweep_cost.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "run/artefact.h"

namespace moextract::sweep {
namespace fs = std::filesystem;
namespace {

/// Enough for a mean; reading all manifests of a large store would take longer than planning.
constexpr std::size_t kSamples = 8;

std::string kind_of_folder(const std::string& name) {
  return name.substr(0, name.find('-'));
}

/// Adds what a finished artefact took. One that cannot be read says nothing.
void measure(const fs::path& folder, StageCost& cost) {
  if (cost.measured >= kSamples || !fs::exists(folder / "DONE")) return;
  try {
    const nlohmann::json manifest = run::ArtefactStore::manifest_of(folder);
    const double seconds =
        manifest.at("seconds").get<double>() * manifest.value("ranks", 1.0) * manifest.value("threads_per_rank", 1.0);
    const auto count = static_cast<double>(cost.measured);
    cost.seconds = (cost.seconds.value_or(0) * count + seconds) / (count + 1);
    ++cost.measured;
  } catch (const std::exception&) {
  }
}

}  // namespace

std::vector<StageCost> stage_costs(const Plan& plan, const SweepStatus& status) {
  std::vector<StageCost> costs;
  const auto cost_of = [&](const std::string& kind) -> StageCost& {
    for (StageCost& cost : costs) {
      if (cost.kind == kind) return cost;
    }
    costs.emplace_back().kind = kind;
    return costs.back();
  };
  for (std::size_t s = 0; s < plan.stages.size(); ++s) {
    const PlannedStage& stage = plan.stages[s];
    StageCost& cost = cost_of(stage.id.substr(0, stage.id.find('/')));
    cost.wanted += stage.runs.size();
    ++cost.different;
    if (status.stage_done[s]) {
      ++cost.done;
      measure(stage.folder, cost);
    } else {
      cost.bytes += stage.bytes;
    }
  }
  std::error_code none;
  for (const fs::directory_entry& entry : fs::directory_iterator(plan.store, none)) {
    const std::string kind = kind_of_folder(entry.path().filename().string());
    for (StageCost& cost : costs) {
      if (cost.kind == kind && cost.measured == 0) measure(entry.path(), cost);
    }
  }
  return costs;
}

}  // namespace moextract::sweep
