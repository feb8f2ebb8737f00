// Routers fitted to recorded inputs and the clusters they belong to, in closed form or by a short training that does
// not go through the model.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

#include "moe/centroids.h"
#include "moe/expert_router.h"

namespace moextract::moe {

enum class RouterKind {
  automatic,  ///< cosine with recorded statistics (MoEE), nearest with streamed ones
  nearest,    ///< nearest mean input of the clusters; the nearest centroid where inputs or a map of them were clustered
  cosine,     ///< cosine to the mean input (MoEE, arXiv 2505.15414)
  linear,     ///< linear discriminant analysis: Gaussians of one covariance, in closed form
  mlp,        ///< a hidden layer, trained on the clusters' labels by Adam
  random      ///< control: tokens go anywhere, by a hash of their input
};

/// What becomes of the class token.
enum class ClassToken {
  automatic,  ///< routed with recorded statistics, dense with streamed ones
  routed,     ///< like every other token
  dense,      ///< it runs all neurons (with one shared output matrix: all that any expert has)
  own         ///< an expert of its own, cut like the others
};

struct RouterParams {
  RouterKind kind = RouterKind::automatic;
  ClassToken class_token = ClassToken::automatic;
  std::int64_t top_k = 1;       ///< experts a token goes to at most
  double tau = 1.0;             ///< with top_k > 1: an expert runs iff p_e >= (1 - tau) max p; 1: always top_k
  double temperature = 1.0;     ///< of p, in units of the mean margin between the best two scores
  std::int64_t hidden = 32;     ///< mlp: hidden neurons
  std::int64_t steps = 400;     ///< mlp: of training
  std::int64_t batch = 512;     ///< mlp: rows a step
  double learning_rate = 0.01;  ///< mlp
  double ridge = 1e-3;          ///< linear: share of the mean variance added to the covariance
  std::uint64_t seed = 1;       ///< mlp, random
};

/// Calls back with blocks of inputs x [n, d] float32 and their clusters [n] int64 (negative: in none), the same blocks
/// at every call.
using LabelledRows =
    std::function<void(const std::function<void(const at::Tensor& x, const at::Tensor& label)>& visit)>;

struct FittedRouter {
  RouterWeights weights;
  double agreement = 0;  ///< share of the labelled rows whose best expert is their own cluster's
};

/// `kind` settled. `centroids`: of the clusters where inputs or a map of them were clustered, else none; `rows` is read
/// up to three times, by one thread. A cluster without rows gets a key of zeros, which with `nearest` and `linear` no
/// token that lies nearer to another is sent to.
FittedRouter fit_router(const RouterParams& params, std::int64_t k, std::int64_t width, const Centroids& centroids,
                        const LabelledRows& rows);

}  // namespace moextract::moe
