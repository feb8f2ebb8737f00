#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace moextract::train {

double warmup_cosine(std::int64_t step, std::int64_t steps, std::int64_t warmup_steps, double peak,
                     double floor_share) {
  if (step < warmup_steps) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup_steps);
  const double length = static_cast<double>(std::max<std::int64_t>(steps - warmup_steps, 1));
  const double progress = std::min(1.0, static_cast<double>(step - warmup_steps) / length);
  const double floor = floor_share * peak;
  return floor + 0.5 * (peak - floor) * (1.0 + std::cos(std::numbers::pi * progress));
}

}  // namespace moextract::train
