#include "moe/moments.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/float16.h"

namespace moextract::moe {

MomentSums::MomentSums(std::int64_t k, std::int64_t hidden, std::int64_t width)
    : k_(k),
      hidden_(hidden),
      width_(width),
      count_(k, 0),
      h_sum_(k * hidden, 0),
      x_sum_(k * width, 0),
      h_square_(k * hidden, 0) {}

void MomentSums::add(std::span<const std::uint16_t> x, std::span<const std::uint16_t> h,
                     std::span<const std::int32_t> labels, Workers& workers) {
  const auto n = static_cast<std::int64_t>(labels.size());
  MOEX_ASSERT(static_cast<std::int64_t>(h.size()) == n * hidden_, "hidden rows of another length");
  MOEX_ASSERT(x.empty() || static_cast<std::int64_t>(x.size()) == n * width_, "input rows of another length");
  for (const std::int32_t label : labels) {
    MOEX_ASSERT(label < k_, "a label outside of the clusters");
    if (label >= 0) ++count_[static_cast<std::size_t>(label)];
  }
  // A strip of columns is one thread's work: no two threads write the same sum.
  constexpr std::int64_t kStrip = 64;
  const std::int64_t h_strips = (hidden_ + kStrip - 1) / kStrip;
  const std::int64_t x_strips = x.empty() ? 0 : (width_ + kStrip - 1) / kStrip;
  workers.for_each(h_strips + x_strips, [&](std::int64_t strip, int) {
    if (strip < h_strips) {
      const std::int64_t first = strip * kStrip, last = std::min(first + kStrip, hidden_);
      for (std::int64_t row = 0; row < n; ++row) {
        if (labels[row] < 0) continue;
        const std::int64_t base = labels[row] * hidden_;
        for (std::int64_t j = first; j < last; ++j) {
          const std::int64_t value = float16_to_fixed(h[row * hidden_ + j]);
          h_sum_[base + j] += value;
          h_square_[base + j] += static_cast<unsigned __int128>(static_cast<__int128>(value) * value);
        }
      }
    } else {
      const std::int64_t first = (strip - h_strips) * kStrip, last = std::min(first + kStrip, width_);
      for (std::int64_t row = 0; row < n; ++row) {
        if (labels[row] < 0) continue;
        const std::int64_t base = labels[row] * width_;
        for (std::int64_t j = first; j < last; ++j) x_sum_[base + j] += float16_to_fixed(x[row * width_ + j]);
      }
    }
  });
}

ClusterMoments MomentSums::moments() const {
  ClusterMoments m;
  m.k = k_;
  m.hidden = hidden_;
  m.width = width_;
  m.count = count_;
  m.h_mean.assign(h_sum_.size(), 0);
  m.h_variance.assign(h_sum_.size(), 0);
  m.x_mean.assign(x_sum_.size(), 0);
  for (std::int64_t c = 0; c < k_; ++c) {
    const std::int64_t n = count_[c];
    if (n == 0) continue;
    for (std::int64_t i = c * hidden_; i < (c + 1) * hidden_; ++i) {
      m.h_mean[i] = static_cast<double>(h_sum_[i]) / static_cast<double>(n) * kFloat16FixedUnit;
      // n * sum(q^2) - sum(q)^2 in integers: no cancellation, whatever the mean. Modulo 2^128 the difference is right
      // as long as it fits itself: for values below 2^10 and 2^29 rows it does (and so do the 64-bit sums), though the
      // products may not.
      const auto sum = static_cast<unsigned __int128>(static_cast<__int128>(h_sum_[i]));
      const unsigned __int128 spread = h_square_[i] * static_cast<unsigned __int128>(n) - sum * sum;
      m.h_variance[i] = static_cast<double>(spread) / static_cast<double>(n) / static_cast<double>(n) *
                        kFloat16FixedUnit * kFloat16FixedUnit;
    }
    for (std::int64_t i = c * width_; i < (c + 1) * width_; ++i) {
      m.x_mean[i] = static_cast<double>(x_sum_[i]) / static_cast<double>(n) * kFloat16FixedUnit;
    }
  }
  return m;
}

}  // namespace moextract::moe
