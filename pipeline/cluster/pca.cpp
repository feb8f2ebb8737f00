#include "cluster/pca.h"

#include <algorithm>
#include <cmath>

#include "cluster/symmetric_eigen.h"
#include "core/error.h"

namespace moextract::cluster {
namespace {

constexpr std::int64_t kTile = 64;        // a tile of the covariance matrix, each entry's sum kept by one thread
constexpr std::int64_t kRowsAtOnce = 64;  // of centred rows, while they are in the cache

// One tile of the covariance's lower triangle, times n - 1.
void sum_tile(std::span<const float> rows, const PcaModel& model, std::int64_t top, std::int64_t left,
              std::vector<double>& scratch, double* out) {
  const std::int64_t d = model.dimension, n = static_cast<std::int64_t>(rows.size()) / d;
  const std::int64_t height = std::min(kTile, d - top), width = std::min(kTile, d - left);
  scratch.resize(static_cast<std::size_t>(2 * kRowsAtOnce * kTile));
  double* const a = scratch.data();
  double* const b = a + kRowsAtOnce * kTile;
  std::vector<double> sums(static_cast<std::size_t>(kTile * kTile), 0.0);
  for (std::int64_t first = 0; first < n; first += kRowsAtOnce) {
    const std::int64_t count = std::min(kRowsAtOnce, n - first);
    for (std::int64_t i = 0; i < count; ++i) {
      const float* row = rows.data() + (first + i) * d;
      for (std::int64_t k = 0; k < height; ++k)
        a[i * kTile + k] = row[top + k] - model.mean[static_cast<std::size_t>(top + k)];
      for (std::int64_t k = 0; k < width; ++k)
        b[i * kTile + k] = row[left + k] - model.mean[static_cast<std::size_t>(left + k)];
    }
    for (std::int64_t x = 0; x < height; ++x) {
      double* sum = sums.data() + x * kTile;
      for (std::int64_t i = 0; i < count; ++i) {
        const double value = a[i * kTile + x];
        for (std::int64_t y = 0; y < kTile; ++y) sum[y] += value * b[i * kTile + y];
      }
    }
  }
  for (std::int64_t x = 0; x < height; ++x) {
    for (std::int64_t y = 0; y < width; ++y)
      out[(top + x) * d + left + y] = sums[static_cast<std::size_t>(x * kTile + y)];
  }
}

void check_components(std::int64_t components, std::int64_t dimension) {
  if (components >= 1 && components <= dimension) return;
  fail(ExitCode::config, "PCA: {} components of rows of dimension {} were asked for; ask for 1 to {}", components,
       dimension, dimension);
}

// Axes and variances from the covariance, which every rank has. Solved once: another rank's processor or library must
// not give other bits.
void solve_axes(PcaModel& model, std::vector<double> covariance, comm::Communicator& comm) {
  const auto d = static_cast<std::size_t>(model.dimension);
  for (std::size_t k = 0; k < d; ++k) model.total_variance += covariance[k * d + k];
  model.axes.resize(static_cast<std::size_t>(model.components) * d);
  model.variances.resize(static_cast<std::size_t>(model.components));
  comm.together([&] {
    if (!comm.is_root()) return;
    const SymmetricEigen eigen = symmetric_eigen(std::move(covariance), model.dimension);
    std::copy_n(eigen.vectors.begin(), model.axes.size(), model.axes.begin());
    std::transform(eigen.values.begin(), eigen.values.begin() + model.components, model.variances.begin(),
                   [](double value) { return std::max(value, 0.0); });
  });
  comm.broadcast(std::span(model.axes));
  comm.broadcast(std::span(model.variances));
}

}  // namespace

PcaModel fit_pca(const RowMoments& moments, std::int64_t components, comm::Communicator& comm) {
  check_components(components, moments.dimension);
  PcaModel model;
  model.dimension = moments.dimension;
  model.components = components;
  model.mean = moments.mean;
  solve_axes(model, moments.covariance, comm);
  return model;
}

PcaModel fit_pca(std::span<const float> rows, std::int64_t dimension, std::int64_t components, comm::Communicator& comm,
                 Workers& workers) {
  check_components(components, dimension);
  const auto d = static_cast<std::size_t>(dimension);
  PcaModel model;
  model.dimension = dimension;
  model.components = components;
  model.mean.assign(d, 0.0);
  for (std::size_t at = 0; at < rows.size(); at += d) {
    for (std::size_t k = 0; k < d; ++k) model.mean[k] += rows[at + k];
  }
  const auto n = static_cast<double>(rows.size() / d);
  for (double& value : model.mean) value /= std::max(n, 1.0);

  // Tiles are dealt over ranks; the others' are zero, so that the sum over ranks only joins them, exactly.
  std::vector<double> moments(d * d, 0.0);
  const std::int64_t tiles = (dimension + kTile - 1) / kTile, pairs = tiles * (tiles + 1) / 2;
  const std::int64_t mine = (pairs - comm.rank() + comm.size() - 1) / comm.size();
  std::vector<std::vector<double>> scratch(static_cast<std::size_t>(workers.size()));
  workers.for_each(mine, [&](std::int64_t unit, int worker) {
    std::int64_t pair = unit * comm.size() + comm.rank(), top = 0;
    while (pair > top) pair -= ++top;
    sum_tile(rows, model, top * kTile, pair * kTile, scratch[static_cast<std::size_t>(worker)], moments.data());
  });
  comm.all_reduce(std::span(moments), comm::Reduction::sum);
  const double divisor = std::max(n - 1, 1.0);
  // Plus zero: a sum over ranks has no negative zeros, nor has one rank alone then.
  for (double& value : moments) value = value / divisor + 0.0;
  solve_axes(model, std::move(moments), comm);
  return model;
}

std::vector<float> project(const PcaModel& model, std::span<const float> rows, Workers& workers) {
  const std::int64_t d = model.dimension, n = static_cast<std::int64_t>(rows.size()) / d;
  std::vector<float> coordinates(static_cast<std::size_t>(n * model.components));
  constexpr std::int64_t kUnit = 32;
  workers.for_each((n + kUnit - 1) / kUnit, [&](std::int64_t unit, int) {
    std::vector<double> centred(static_cast<std::size_t>(d));
    for (std::int64_t i = unit * kUnit; i < std::min(n, (unit + 1) * kUnit); ++i) {
      for (std::int64_t k = 0; k < d; ++k) {
        centred[static_cast<std::size_t>(k)] =
            rows[static_cast<std::size_t>(i * d + k)] - model.mean[static_cast<std::size_t>(k)];
      }
      for (std::int64_t c = 0; c < model.components; ++c) {
        const double* axis = model.axes.data() + c * d;
        double sums[4] = {0, 0, 0, 0};
        std::int64_t k = 0;
        for (; k + 4 <= d; k += 4) {
          for (int lane = 0; lane < 4; ++lane)
            sums[lane] += centred[static_cast<std::size_t>(k + lane)] * axis[k + lane];
        }
        for (; k < d; ++k) sums[0] += centred[static_cast<std::size_t>(k)] * axis[k];
        coordinates[static_cast<std::size_t>(i * model.components + c)] =
            static_cast<float>((sums[0] + sums[1]) + (sums[2] + sums[3]));
      }
    }
  });
  return coordinates;
}

}  // namespace moextract::cluster
