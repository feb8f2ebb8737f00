// Learning rate over steps: linear warm-up, then half a cosine down to a floor.
#pragma once

#include <cstdint>

namespace moextract::train {

/// Rate of step 0 .. steps-1. Warm-up: (step + 1) / warmup_steps of `peak`; then cosine from peak to floor_share *
/// peak.
double warmup_cosine(std::int64_t step, std::int64_t steps, std::int64_t warmup_steps, double peak, double floor_share);

}  // namespace moextract::train
