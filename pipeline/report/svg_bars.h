// Bars: token shares, expert sizes, kept neurons, time per stage.
#pragma once

#include <string>
#include <vector>

#include "report/results.h"

namespace moextract {

/// One row a layer, one segment an expert, the most used first.
std::string draw_token_shares(const std::vector<Layer>& layers);

/// exp(entropy of the shares): the number of equally used experts that would be as even; nothing without shares.
Number effective_experts(const std::vector<Number>& shares);

/// One layer: |S_c| as columns against hidden, the union as a dashed line, the mean active share as a solid one.
std::string draw_expert_sizes(const Layer& layer);

/// One column a layer: neurons kept of those there were.
std::string draw_kept_neurons(const std::vector<VbpLayer>& layers);

/// One row a stage; reused stages are hollow, for their time was spent earlier.
std::string draw_times(const std::vector<StageTime>& stages);

}  // namespace moextract
