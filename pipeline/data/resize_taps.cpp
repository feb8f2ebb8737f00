#include "data/resize_taps.h"

#include <algorithm>
#include <cmath>

namespace moextract::data {
namespace {

double bilinear_weight(double x) {
  x = std::abs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

double bicubic_weight(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

}  // namespace

ResizeTaps make_resize_taps(int in_size, int out_size, int begin, int count, Interpolation interpolation) {
  const auto weight = interpolation == Interpolation::bilinear ? bilinear_weight : bicubic_weight;
  const double scale = static_cast<double>(in_size) / out_size;
  const double filter_scale = std::max(scale, 1.0);
  const double support = (interpolation == Interpolation::bilinear ? 1.0 : 2.0) * filter_scale;
  ResizeTaps taps;
  taps.width = static_cast<std::size_t>(std::ceil(support)) * 2 + 1;
  taps.weights.resize(taps.width * static_cast<std::size_t>(count));
  std::vector<double> exact(taps.width);
  for (int i = 0; i < count; ++i) {
    const double center = (begin + i + 0.5) * scale;
    const double inverse = 1.0 / filter_scale;
    const int first = std::max(static_cast<int>(center - support + 0.5), 0);
    const int used = std::min(static_cast<int>(center + support + 0.5), in_size) - first;
    double sum = 0.0;
    for (int x = 0; x < used; ++x) {
      exact[static_cast<std::size_t>(x)] = weight((x + first - center + 0.5) * inverse);
      sum += exact[static_cast<std::size_t>(x)];
    }
    std::int32_t* fixed = taps.weights.data() + static_cast<std::size_t>(i) * taps.width;
    for (int x = 0; x < used; ++x) {
      double w = exact[static_cast<std::size_t>(x)];
      if (sum != 0.0) w /= sum;
      fixed[x] = static_cast<std::int32_t>((w < 0 ? -0.5 : 0.5) + w * (1 << kResizeBits));
    }
    taps.first.push_back(first);
    taps.count.push_back(used);
  }
  return taps;
}

}  // namespace moextract::data
