// Routing that could not be had at inference, or would not be wanted: controls that a layer's router is compared with.
#pragma once

#include <cstdint>
#include <string>

#include "model/weights.h"
#include "moe/centroids.h"
#include "moe/mixture_mlp.h"

namespace moextract::moe {

enum class Routing {
  learnt,  ///< by the layer's router
  random,  ///< to any expert, by a hash of the token's input
  oracle,  ///< to the expert of the cluster that the token's true activations lie nearest to
  best     ///< to the expert whose answer comes nearest to the dense MLP's
};

/// A chooser for `layer` of a model with experts; routed experts are numbered 0 .. k - 1.
Chooser random_routing(std::uint64_t seed, std::int64_t layer, std::int64_t k);
/// On a device `centroids`, `dense` and `experts` are in its memory; random routing hashes on the host.
/// `centroids` [k, width of the tap], their prices not looked at; `tap`: what was clustered, x, h, y (the MLP's
/// output), both (x, then h) or z (a map of x, which comes with the centroids); `dense`: tensors of the trained model.
Chooser oracle_routing(std::int64_t layer, const model::TensorMap& dense, const Centroids& centroids,
                       const std::string& tap);
Chooser best_routing(std::int64_t layer, const model::TensorMap& dense, const model::TensorMap& experts,
                     std::int64_t k);

}  // namespace moextract::moe
