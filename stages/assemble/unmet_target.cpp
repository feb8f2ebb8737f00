#include "stages/assemble/unmet_target.h"

#include <fmt/format.h>

#include <cmath>
#include <string>

#include "core/error.h"

namespace moextract::stages {
namespace {

/// Four digits, rounded up: who asks for them gets them.
std::string rounded_up(double value) {
  const double unit = std::pow(10.0, std::floor(std::log10(value)) - 3);
  return fmt::format("{:.4g}", std::ceil(value / unit * (1 - 1e-12)) * unit);
}

}  // namespace

void fail_unmet(std::string_view key, double asked, double least, bool experts) {
  if (!experts) {
    fail(ExitCode::config,
         "{}: {:.4g} cannot be met: all layers stay dense, for none has two clusters (assemble.one_cluster: dense). "
         "Make more clusters (cluster.k), or set assemble.one_cluster to pruned",
         key, asked);
  }
  // Parameters may be more than the dense model's, as a target too.
  const bool of_use = least <= 1 || key.ends_with("target_parameters");
  fail(ExitCode::config, "{}: {:.4g} cannot be met: the smallest experts allowed cost {}. {}", key, asked,
       rounded_up(least),
       of_use ? "Ask for that or more, or lower assemble.min_neurons"
              : "That is more than the dense model: lower assemble.min_neurons, or make fewer clusters");
}

}  // namespace moextract::stages
