// Experts chosen by expected output error and refitted by least squares: the assembly that keeps the accuracy.
//
// Per expert: backward elimination on the second moments of what the router sends there, output weights refitted, an
// output bias of its own. Neurons are allotted by one threshold over all layers and experts. The class token runs all
// neurons.
#pragma once

#include <filesystem>
#include <vector>

#include "model/network.h"
#include "run/stage_graph.h"
#include "stages/assemble/assemble.h"
#include "stages/moments/moments.h"

namespace moextract::stages {

/// Collective. Layers are dealt over the ranks; every rank gets all tensors, the same bits on any number of ranks.
/// Replaces the MLPs in `tensors`; returns the layers' facts for assembly.json and fills `shares`.
nlohmann::json fit_experts(const AssembleParams& params, const moe::LoadedModel& model,
                           const std::filesystem::path& moments, run::Context& context, model::TensorMap& tensors,
                           model::TokenShares& shares);

}  // namespace moextract::stages
