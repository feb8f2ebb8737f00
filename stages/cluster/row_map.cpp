#include "stages/cluster/row_map.h"

#include <algorithm>

#include "core/float16.h"

namespace moextract::stages {
namespace {

// Rows that a worker multiplies while a part of the weights stays in its cache.
constexpr std::int64_t kTileRows = 16;

}  // namespace

void map_rows(const RowMap& map, std::span<const std::uint16_t> x, std::span<std::uint16_t> y, Workers& workers) {
  const std::int64_t outputs = map.outputs, inputs = map.inputs;
  const std::int64_t rows = static_cast<std::int64_t>(x.size()) / inputs;
  // Columns side by side, so that one input meets all outputs at once and each output has one sum.
  std::vector<double> transposed(map.weight.size());
  for (std::int64_t i = 0; i < outputs; ++i) {
    for (std::int64_t j = 0; j < inputs; ++j)
      transposed[j * outputs + i] = static_cast<double>(map.weight[i * inputs + j]);
  }
  workers.for_each((rows + kTileRows - 1) / kTileRows, [&](std::int64_t tile, int) {
    const std::int64_t first = tile * kTileRows, count = std::min(kTileRows, rows - first);
    std::vector<double> sums(static_cast<std::size_t>(count * outputs));
    std::vector<float> xs(static_cast<std::size_t>(count * inputs)), ys(sums.size());
    from_float16(x.subspan(static_cast<std::size_t>(first * inputs), xs.size()), xs);
    for (std::size_t i = 0; i < sums.size() && !map.bias.empty(); ++i) {
      sums[i] = static_cast<double>(map.bias[i % static_cast<std::size_t>(outputs)]);
    }
    for (std::int64_t j = 0; j < inputs; ++j) {
      const double* column = transposed.data() + j * outputs;
      for (std::int64_t r = 0; r < count; ++r) {
        const auto value = static_cast<double>(xs[static_cast<std::size_t>(r * inputs + j)]);
        double* sum = sums.data() + r * outputs;
        for (std::int64_t i = 0; i < outputs; ++i) sum[i] += value * column[i];
      }
    }
    std::transform(sums.begin(), sums.end(), ys.begin(), [](double sum) { return static_cast<float>(sum); });
    to_float16(ys, y.subspan(static_cast<std::size_t>(first * outputs), ys.size()));
  });
}

}  // namespace moextract::stages
