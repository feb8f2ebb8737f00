#include "train/gradient_sum.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace moextract::train {
namespace {
constexpr double kUnits = 0x1.0p52;  // integers a unit; sums stay below 2^63 for magnitudes below 2^11
}

GradientSum::GradientSum(std::int64_t length, std::int64_t scalars, std::int64_t parts)
    : length_(length),
      limit_(static_cast<float>(0x1.0p10 / static_cast<double>(std::max<std::int64_t>(parts, 1)))),
      sums_(static_cast<std::size_t>(length + scalars), 0) {}

void GradientSum::clear() {
  std::fill(sums_.begin(), sums_.end(), 0);
}

bool GradientSum::add(std::int64_t offset, std::span<const float> values) {
  float largest = 0;
  bool ordered = true;
  for (const float value : values) {
    largest = std::max(largest, std::fabs(value));
    ordered = ordered && value == value;
  }
  if (!ordered || !(largest < limit_)) return false;
  std::int64_t* sums = sums_.data() + offset;
  for (std::size_t i = 0; i < values.size(); ++i) sums[i] += std::llrint(static_cast<double>(values[i]) * kUnits);
  return true;
}

void GradientSum::merge(const GradientSum& other) {
  MOEX_ASSERT(other.sums_.size() == sums_.size(), "gradient sums of different models");
  for (std::size_t i = 0; i < sums_.size(); ++i) sums_[i] += other.sums_[i];
}

void GradientSum::all_reduce(comm::Communicator& comm) {
  comm.all_reduce(std::span<std::int64_t>(sums_), comm::Reduction::sum);
}

void GradientSum::read(std::int64_t offset, std::span<float> values) const {
  const std::int64_t* sums = sums_.data() + offset;
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(static_cast<double>(sums[i]) / kUnits);
}

}  // namespace moextract::train
