// What a sweep will cost, by what stages of the same kind took earlier.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sweep/sweep_folder.h"

namespace moextract::sweep {

/// The stages of one kind ("collect", "evaluate") of all runs together.
struct StageCost {
  std::string kind;
  std::size_t wanted = 0;     ///< one a run and stage, as if nothing were shared
  std::size_t different = 0;  ///< artefacts
  std::size_t done = 0;
  double bytes = 0;               ///< that those to make will write, where known
  std::optional<double> seconds;  ///< mean of those made earlier in the same store: seconds of one core
  std::size_t measured = 0;       ///< how many that mean is of
  std::size_t to_make() const { return different - done; }
};

/// In the order in which stages run. Reads a few manifests of the store for each kind.
std::vector<StageCost> stage_costs(const Plan& plan, const SweepStatus& status);

}  // namespace moextract::sweep
