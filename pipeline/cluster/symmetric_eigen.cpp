#include "cluster/symmetric_eigen.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/error.h"

namespace moextract::cluster {
namespace {

// Length of (a, b); not std::hypot, whose last bit differs between libraries.
double length(double a, double b) {
  a = std::abs(a);
  b = std::abs(b);
  if (a < b) std::swap(a, b);
  if (a == 0) return 0;
  const double ratio = b / a;
  return a * std::sqrt(1 + ratio * ratio);
}

// The transform is kept by rows, z[i] being what EISPACK has as column i: the inner loops run along memory.
class Reduction {
 public:
  Reduction(std::vector<double> matrix, std::int64_t n)
      : n_(n), z_(std::move(matrix)), d_(static_cast<std::size_t>(n)), e_(static_cast<std::size_t>(n)) {}

  SymmetricEigen run() {
    reduce();
    iterate();
    return sorted();
  }

 private:
  double* row(std::int64_t i) { return z_.data() + i * n_; }

  // Householder: Q' A Q = tridiagonal (d, e). Vectors are kept in the rows of z_ until Q is formed.
  void reduce() {
    double* d = d_.data();
    double* e = e_.data();
    // Work on the full symmetric matrix; upper triangle from the lower.
    for (std::int64_t i = 0; i < n_; ++i) {
      for (std::int64_t j = 0; j < i; ++j) row(j)[i] = row(i)[j];
    }
    std::vector<double> p(static_cast<std::size_t>(n_)), scale(static_cast<std::size_t>(n_), 0.0);
    for (std::int64_t i = n_ - 1; i > 0; --i) {
      double* v = row(i);  // v[0 .. i-1] is the row to be annihilated up to v[i-1]
      double size = 0;
      for (std::int64_t k = 0; k < i; ++k) size += std::abs(v[k]);
      d[i] = v[i];
      if (i == 1 || size == 0) {
        e[i] = v[i - 1];
        std::fill(v, v + i, 0.0);
        continue;
      }
      double h = 0;
      for (std::int64_t k = 0; k < i; ++k) {
        v[k] /= size;
        h += v[k] * v[k];
      }
      const double g = v[i - 1] > 0 ? -std::sqrt(h) : std::sqrt(h);
      e[i] = size * g;
      h -= v[i - 1] * g;
      v[i - 1] -= g;
      scale[static_cast<std::size_t>(i)] = h;
      // p = A v / h, then the rank-two update A -= v q' + q v'.
      double vp = 0;
      for (std::int64_t j = 0; j < i; ++j) {
        const double* a = row(j);
        double sums[4] = {0, 0, 0, 0};
        std::int64_t k = 0;
        for (; k + 4 <= i; k += 4) {
          for (int lane = 0; lane < 4; ++lane) sums[lane] += a[k + lane] * v[k + lane];
        }
        for (; k < i; ++k) sums[0] += a[k] * v[k];
        p[static_cast<std::size_t>(j)] = ((sums[0] + sums[1]) + (sums[2] + sums[3])) / h;
        vp += p[static_cast<std::size_t>(j)] * v[j];
      }
      const double half = vp / (2 * h);
      for (std::int64_t j = 0; j < i; ++j) p[static_cast<std::size_t>(j)] -= half * v[j];
      for (std::int64_t j = 0; j < i; ++j) {
        double* a = row(j);
        const double vj = v[j], pj = p[static_cast<std::size_t>(j)];
        for (std::int64_t k = 0; k < i; ++k) a[k] -= vj * p[static_cast<std::size_t>(k)] + pj * v[k];
      }
    }
    d[0] = row(0)[0];
    // Q', row by row: Q = H(n-1) .. H(1), applied to the growing leading block.
    std::vector<double> v(static_cast<std::size_t>(n_));
    for (std::int64_t i = 0; i < n_; ++i) {
      std::copy(row(i), row(i) + i, v.begin());
      std::fill(row(i), row(i) + i, 0.0);
      row(i)[i] = 1;
      for (std::int64_t j = 0; j < i; ++j) row(j)[i] = 0;
      const double h = scale[static_cast<std::size_t>(i)];
      if (h == 0) continue;
      for (std::int64_t j = 0; j < i; ++j) {
        double* q = row(j);
        double dot = 0;
        for (std::int64_t k = 0; k < i; ++k) dot += q[k] * v[static_cast<std::size_t>(k)];
        dot /= h;
        for (std::int64_t k = 0; k < i; ++k) q[k] -= dot * v[static_cast<std::size_t>(k)];
      }
    }
  }

  // Implicit QL on (d, e); rotations act on pairs of rows of z_.
  void iterate() {
    double* d = d_.data();
    double* e = e_.data();
    for (std::int64_t i = 1; i < n_; ++i) e[i - 1] = e[i];
    if (n_ > 0) e[n_ - 1] = 0;
    for (std::int64_t l = 0; l < n_; ++l) {
      for (int sweep = 0;; ++sweep) {
        std::int64_t m = l;
        for (; m + 1 < n_; ++m) {
          if (std::abs(e[m]) <= std::numeric_limits<double>::epsilon() * (std::abs(d[m]) + std::abs(d[m + 1]))) break;
        }
        if (m == l) break;
        if (sweep == 100) fail(ExitCode::numerics, "the eigenvalues of a {0} x {0} matrix did not converge", n_);
        double g = (d[l + 1] - d[l]) / (2 * e[l]);
        double r = length(g, 1);
        g = d[m] - d[l] + e[l] / (g + std::copysign(r, g));
        double s = 1, c = 1, p = 0;
        std::int64_t i = m - 1;
        for (; i >= l; --i) {
          const double f = s * e[i], b = c * e[i];
          r = length(f, g);
          e[i + 1] = r;
          if (r == 0) {
            d[i + 1] -= p;
            e[m] = 0;
            break;
          }
          s = f / r;
          c = g / r;
          g = d[i + 1] - p;
          r = (d[i] - g) * s + 2 * c * b;
          p = s * r;
          d[i + 1] = g + p;
          g = c * r - b;
          double* high = row(i + 1);
          double* low = row(i);
          for (std::int64_t k = 0; k < n_; ++k) {
            const double above = high[k];
            high[k] = s * low[k] + c * above;
            low[k] = c * low[k] - s * above;
          }
        }
        if (r == 0 && i >= l) continue;
        d[l] -= p;
        e[l] = g;
        e[m] = 0;
      }
    }
  }

  SymmetricEigen sorted() {
    std::vector<std::int64_t> order(static_cast<std::size_t>(n_));
    std::iota(order.begin(), order.end(), std::int64_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
      return d_[static_cast<std::size_t>(a)] > d_[static_cast<std::size_t>(b)];
    });
    SymmetricEigen result;
    for (const std::int64_t i : order) {
      const double* from = row(i);
      const double* largest =
          std::max_element(from, from + n_, [](double a, double b) { return std::abs(a) < std::abs(b); });
      const double sign = *largest < 0 ? -1 : 1;
      result.values.push_back(d_[static_cast<std::size_t>(i)]);
      for (std::int64_t k = 0; k < n_; ++k) result.vectors.push_back(sign * from[k]);
    }
    return result;
  }

  std::int64_t n_;
  std::vector<double> z_, d_, e_;
};

}  // namespace

SymmetricEigen symmetric_eigen(std::vector<double> matrix, std::int64_t n) {
  MOEX_ASSERT(static_cast<std::int64_t>(matrix.size()) == n * n, "the matrix is not [n, n]");
  return Reduction(std::move(matrix), n).run();
}

}  // namespace moextract::cluster
