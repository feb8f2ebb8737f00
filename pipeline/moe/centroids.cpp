#include "moe/centroids.h"

#include <ATen/ATen.h>

namespace moextract::moe {

RouterWeights nearest_router(const Centroids& centroids) {
  RouterWeights router;
  router.keys = centroids.rows.to(at::kFloat);
  const at::Tensor rows = router.keys.to(at::kDouble);
  at::Tensor bias = -0.5 * rows.square().sum(1);
  if (centroids.prices.defined()) bias = bias - 0.5 * centroids.prices.to(at::kDouble);
  if (centroids.map_weight.defined()) {
    router.keys = rows.matmul(centroids.map_weight.to(at::kDouble)).to(at::kFloat);
    bias = bias + rows.mv(centroids.map_bias.to(at::kDouble));
  }
  router.bias = bias.to(at::kFloat);
  return router;
}

}  // namespace moextract::moe
