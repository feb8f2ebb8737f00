#include "stages/cluster/cluster_plan.h"

#include <algorithm>
#include <cmath>

#include "cluster/bound_table.h"
#include "cluster/distances.h"
#include "cluster/exact_sums.h"
#include "cluster/rounded_rows.h"

namespace moextract::stages {
namespace {

using cluster::kKernelRows;
using cluster::kPanelCentroids;
using cluster::kTileRows;

// A vector that grows holds its old and its new content at once, and up to twice its size.
constexpr double kGrowing = 3;

double padded(double k) {
  return std::ceil(k / kPanelCentroids) * kPanelCentroids;
}
double depth_of(double d) {
  return static_cast<double>(cluster::padded_depth(static_cast<std::int64_t>(d)));
}

// Of cluster::NearestCentroids, CentroidPanels, NearestScratch and RowTile.
double tables(double k, double d) {
  return 4 * k * d + 4 * padded(k) * depth_of(d) + 64 * padded(k);
}
double panels(double k, double d) {
  return 16 * (k + kPanelCentroids) * d;
}
double scratch(double k, double d, double rows) {
  return (4 + 2 * rows) * depth_of(d) + 4 * (kKernelRows + 3) * padded(k);
}
double tile(double d) {
  return 12.0 * kTileRows * d;
}

/// Of a drawn sample, while it is gathered: what each rank found, the gathered bytes, and the rows as floats.
double drawing(double rows, double d) {
  return rows * (d * (2 * kGrowing + 4 + 4 + 4) + 300);
}

/// Sizes of the k-means of one layer, or of a sample of it.
struct KMeansSize {
  double local = 0, rows = 0, d = 0, k = 0, threads = 1;
};

double start_bytes(const cluster::KMeansParams& p, const KMeansSize& s) {
  if (p.init == cluster::KMeansInit::given) return 8 * s.k * s.d;
  const double sampled = std::min(std::max(static_cast<double>(p.init_sample), s.k), s.rows);
  const double held = 4 * sampled * s.d;
  const double trials = 2 + std::log(s.k);
  const auto among = [&](double n) {  // k-means++
    return 8 * n * (trials + 4) + panels(trials, s.d) + s.threads * tile(s.d) + 4 * trials * s.d;
  };
  double drawn = among(sampled);
  if (p.init == cluster::KMeansInit::parallel) {
    const double mean = p.init_oversampling * s.k, fresh = std::min(s.rows, mean + 6 * std::sqrt(mean) + 6),
                 taken = std::min(s.rows, 1 + static_cast<double>(p.init_rounds) * fresh);
    drawn = std::max(drawn, 12 * s.local + 4 * kGrowing * taken * s.d + 8 * (1 + kGrowing) * fresh * s.d +
                                std::max(tables(fresh, s.d) + panels(fresh, s.d) +
                                             s.threads * (scratch(fresh, s.d, kTileRows) + tile(s.d) + 8 * taken),
                                         among(taken)));
  }
  // Where the sample holds too few different rows, k of each rank's are looked for.
  const double different = s.k * (s.d * 4 * (2 + 2 * kGrowing) + 100);
  return std::max(drawing(sampled, s.d), held + std::max(drawn, different));
}

double pass_bytes(const cluster::KMeansParams& p, const KMeansSize& s) {
  constexpr double kRowsOfTile = 192, kLargePage = 1 << 21;
  const auto local = static_cast<std::int64_t>(s.local), k = static_cast<std::int64_t>(s.k),
             d = static_cast<std::int64_t>(s.d);
  const double kept = static_cast<double>(cluster::BoundTable::bytes_for(local, k, p.balance > 0 ? 0 : p.bounds_bytes) +
                                          cluster::RoundedRows::bytes_for(local, d, p.rounded_bytes));
  // Sums may need two words a value: that depends on the rows.
  const double words = 8.0 * static_cast<double>(cluster::SumWords(k, d, 1, 128.0f).words()) + 16 * s.k;
  const double thread = words + scratch(s.k, s.d, kRowsOfTile) + 4 * s.d + kRowsOfTile * (24 * s.k + 200) + 32 * s.k;
  const double refilled = panels(s.k, s.d) + (s.threads * 2 + 8) * 4 * s.k * s.d;
  return kept + 2 * kLargePage + s.threads * (thread + tile(s.d)) + 3 * words + tables(s.k, s.d) + 40 * s.k * s.d +
         refilled;
}

double quality_bytes(double sampled, const KMeansSize& s) {
  constexpr double kPart = 512;
  const double rows = std::min(sampled, s.rows);
  return drawing(rows, s.d) + 8 * rows * (s.k + 4) + panels(kPart, s.d) + tables(s.k, s.d) + 16 * s.k * s.d +
         s.threads * (tile(s.d) + 8 * kTileRows * kPart);
}

struct DensitySize {
  double local = 0, rows = 0, ranks = 1, d = 0, threads = 1;
};

double density_bytes(const ClusterParams& params, const DensitySize& s) {
  const cluster::hdbscan::Params& p = params.hdbscan;
  const double n = std::min(static_cast<double>(p.sample_rows), s.rows), d = s.d;
  const bool projects = p.pca_components > 0 && static_cast<double>(p.pca_components) < d;
  const double c = projects ? static_cast<double>(p.pca_components) : d;
  const double wanted = static_cast<double>(p.min_samples > 0 ? p.min_samples : p.min_cluster_size);
  const double length = std::max(wanted + 4, 16.0);
  const auto candidates = [](double rows, double list) { return rows * (12 * (2 * list + 32) + 16 + 12 * list); };

  const double sample = 16 * s.local + n * (d * (2 * kGrowing + 2 + 2 + 2) + 100);
  const double pca = projects ? 4 * n * (d + c) + 24 * d * d + 16 * c * d + 16 * 1024 * d : 0;
  const double model = n * (4 * c + 600) + (projects ? 8 * c * d : 0);
  const double layouts = n * (8 * c + 60) + 4 * 48 * c;
  // Entries of ranks that are exchanged for a stretch of rows: at most `length` of a row on each rank.
  constexpr double kStretch = 16384;
  const double stretch =
      std::min(n, kStretch) * (32 * (2 * length + 32) + (s.ranks > 1 ? 16 * (kGrowing + 2) * length * s.ranks / 3 : 0));
  const double fit = layouts + candidates(n, length) + stretch;
  const double joined = 4096 * (d * (2 * kGrowing + 8) + 12 * c) + candidates(4096, 2 * wanted);
  const double k = std::max(1.0, n / static_cast<double>(p.min_cluster_size));
  const double means = (s.threads + 2) * 16 * k * d + 1000 * k;
  const double held_back = params.held_back_rows > 0 ? 4 * kGrowing * n * c + 600 * n + fit : 0;
  return std::max({sample, pca, model + std::max({fit, layouts + joined, means, held_back})});
}

double label_bytes(const ClusterParams& params, double local, double rows, double k, double ranks) {
  if (params.method == ClusterMethod::hdbscan) return std::max(24 * local, 8 * local + 12 * rows);
  double during = 8 * local + (params.kmeans.n_init > 1 ? 4 * local : 0);
  const double pairs = std::min(local, k * k), compared = pairs * (150 + 48 * ranks);
  if (params.automatic_k == AutomaticK::stability)
    during += 4 * local * static_cast<double>(params.k_range.seeds) + compared;
  if (params.agreement_seeds > 0) during += 4 * local + compared;
  if (params.automatic_k == AutomaticK::hdbscan) during = std::max(during, 12 * local);
  return std::max(during, 4 * local + 8 * rows);
}

}  // namespace

double ClusterPlan::memory() const {
  return rows + labels + std::max({start + passes, choice, density, quality});
}

std::int64_t cluster_width(ClusterTap tap, std::int64_t x_width, std::int64_t h_width) {
  return tap == ClusterTap::h ? h_width : tap == ClusterTap::both ? x_width + h_width : x_width;
}

ClusterPlan plan_cluster(const ClusterParams& params, const ClusterScale& scale) {
  const std::int64_t width = cluster_width(params.tap, scale.x_width, scale.h_width);
  const std::int64_t local_rows = (scale.rows + scale.ranks - 1) / std::max<std::int64_t>(1, scale.ranks);
  const auto local = static_cast<double>(local_rows), rows = static_cast<double>(scale.rows),
             d = static_cast<double>(width), x = static_cast<double>(scale.x_width),
             h = static_cast<double>(scale.h_width), threads = static_cast<double>(scale.threads),
             ranks = static_cast<double>(scale.ranks);
  ClusterPlan plan;
  const double block = static_cast<double>(std::min(params.block_rows, std::max<std::int64_t>(1, local_rows)));
  const std::int64_t kept = local_rows * width * 2;
  plan.rows = (kept <= params.keep_bytes ? static_cast<double>(kept) : 0) + 2 * block * d;
  if (params.tap == ClusterTap::both) plan.rows += 2 * block * (x + h);
  // W1; moments of x, their sums, the metric, its eigenvectors and root; rows in double; a worker's tile of mapped
  // rows.
  if (params.tap == ClusterTap::z)
    plan.rows += 2 * block * x + 4 * x * h + 48 * x * x + 8 * 1024 * x + threads * 16 * 16 * x;
  if (params.tap == ClusterTap::y) plan.rows += 2 * block * h + 12 * x * h + threads * 16 * (12 * x + 4 * h);

  const bool by_kmeans = params.method == ClusterMethod::kmeans;
  // HDBSCAN's number of clusters is known when it is found: as many as its sample allows.
  double k = static_cast<double>(most_clusters(params));
  if (k == 0) {
    k = std::max(1.0, std::floor(std::min(static_cast<double>(params.hdbscan.sample_rows), rows) /
                                 static_cast<double>(params.hdbscan.min_cluster_size)));
  }
  plan.labels = label_bytes(params, local, rows, k, ranks);
  if (!by_kmeans || params.automatic_k == AutomaticK::hdbscan)
    plan.density = density_bytes(params, {local, rows, ranks, d, threads});
  if (!by_kmeans) return plan;
  const KMeansSize size{local, rows, d, std::min(k, std::max(1.0, rows)), threads};
  plan.start = start_bytes(params.kmeans, size);
  plan.passes = pass_bytes(params.kmeans, size);
  double sampled = static_cast<double>(params.quality_rows);
  if (params.automatic_k == AutomaticK::silhouette)
    sampled = std::max(sampled, static_cast<double>(params.k_range.sample_rows));
  plan.quality = quality_bytes(sampled, size);
  if (params.automatic_k == AutomaticK::gap) {
    const double of_gap = std::min(static_cast<double>(params.k_range.sample_rows), rows);
    const KMeansSize of_sample{std::ceil(of_gap / ranks), of_gap, d, std::min(k, of_gap), threads};
    plan.choice =
        of_gap * d * (2.0 * static_cast<double>(params.k_range.references + 1) + 10) +
        std::max(drawing(of_gap, d), start_bytes(params.kmeans, of_sample) + pass_bytes(params.kmeans, of_sample));
  }
  return plan;
}

}  // namespace moextract::stages
