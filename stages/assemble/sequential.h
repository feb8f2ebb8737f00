// Output weights fitted layer by layer: each layer's to what the compressed layers before it send there, so that it
// repairs what they have done to the residual stream.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>

#include "model/vit_params.h"
#include "moe/fitted_layer.h"
#include "run/stage_graph.h"
#include "stages/assemble/assemble.h"
#include "stages/moments/moments.h"

namespace moextract::stages {

/// Collective. `layers`: the layers that were cut, as they were fitted, ascending; `tensors`: the model with them. Fits
/// the output weights and biases of each but the first again, in order, to the moments of the hidden values in the
/// model whose earlier layers are compressed; the target is the trained MLP's output plus the dense model's residual
/// stream less the compressed one's. With Sequential::all the same is done to layers that stay dense and to uncut
/// experts of the class token. Neurons, routers and sizes stay.
///
/// The images are run once with gradients where moments weigh by importance, and each layer once; a rank keeps as many
/// of its images' streams as fit into stream_gb and computes the others again from the image. Images are dealt over the
/// ranks in units; sums are integers: results do not depend on ranks, threads or memory. Finished layers are kept in
/// `folder` until all are done, and found again there. Returns facts for each layer that was fitted, by its number.
nlohmann::json fit_sequentially(const AssemblyChoices& choices, const AssembleInputs& inputs,
                                std::span<const moe::FittedLayerSpec> layers, run::Context& context,
                                const std::filesystem::path& folder, model::TensorMap& tensors);

/// Bytes of the streams of one image that a rank keeps from one layer to the next.
double stream_bytes(const model::VitParams& vit, const MomentsParams& sampling);

/// Bytes of a rank's sums for one layer of k experts and the prefix tokens.
double sequential_sum_bytes(const AssembleParams& params, std::int64_t k, std::int64_t hidden, std::int64_t width);

}  // namespace moextract::stages
