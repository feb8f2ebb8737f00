#include "cluster/kmeans_init.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <span>
#include <string_view>
#include <utility>

#include "cluster/tile_pass.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/random.h"

namespace moextract::cluster {
namespace {

std::span<const float> row_of(const std::vector<float>& rows, std::int64_t i, std::int64_t dimension) {
  return std::span(rows).subspan(static_cast<std::size_t>(i * dimension), static_cast<std::size_t>(dimension));
}

// The k different rows with the smallest content hashes: a choice that does not depend on where the rows are.
class DistinctRows {
 public:
  explicit DistinctRows(std::int64_t limit) : limit_(static_cast<std::size_t>(limit)) {}

  void offer(std::span<const float> row) {
    key_.second.assign(row.begin(), row.end());
    for (float& value : key_.second) value += 0.0f;  // -0 and 0 are the same row
    key_.first = hash64(std::string_view(reinterpret_cast<const char*>(key_.second.data()), row.size_bytes()));
    if (rows_.size() == limit_ && key_ > *rows_.rbegin()) return;
    if (rows_.insert(key_).second && rows_.size() > limit_) rows_.erase(std::prev(rows_.end()));
  }
  std::int64_t size() const { return static_cast<std::int64_t>(rows_.size()); }
  std::vector<float> values() const {
    std::vector<float> all;
    for (const auto& [hash, row] : rows_) all.insert(all.end(), row.begin(), row.end());
    return all;
  }

 private:
  using Key = std::pair<std::uint64_t, std::vector<float>>;
  std::size_t limit_;
  std::set<Key> rows_;
  Key key_;
};

// Index of the row in which `target` of the running sum falls; a row of weight 0 is never met.
std::int64_t pick(const std::vector<double>& weights, double target) {
  double sum = 0;
  std::int64_t last = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] <= 0) continue;
    sum += weights[i];
    last = static_cast<std::int64_t>(i);
    if (sum > target) break;
  }
  return last;
}

}  // namespace

CentroidSeeder::CentroidSeeder(const RowSource& source, const KMeansParams& params, RowSurvey survey,
                               comm::Communicator& comm, Workers& workers)
    : source_(source),
      params_(params),
      survey_(std::move(survey)),
      comm_(comm),
      workers_(workers),
      candidates_(survey_.sampled),
      complete_(survey_.sampled == survey_.rows) {}

std::vector<float> CentroidSeeder::draw(std::int64_t start) {
  const auto attempt = [&] { return params_.init == KMeansInit::plus_plus ? try_plus_plus(start) : try_random(start); };
  std::vector<std::int64_t> chosen = attempt();
  if (static_cast<std::int64_t>(chosen.size()) < params_.k) {
    if (complete_) fail_for_too_few(static_cast<std::int64_t>(chosen.size()));
    add_distinct_rows();
    chosen = attempt();
    MOEX_ASSERT(static_cast<std::int64_t>(chosen.size()) == params_.k, "k different rows were there and not found");
  }
  std::vector<float> centroids;
  for (const std::int64_t i : chosen) {
    const auto row = row_of(survey_.sample, i, survey_.dimension);
    centroids.insert(centroids.end(), row.begin(), row.end());
  }
  return centroids;
}

// Fewer than k if no row is left that differs from the chosen ones.
std::vector<std::int64_t> CentroidSeeder::try_plus_plus(std::int64_t start) {
  const std::int64_t d = survey_.dimension;
  const auto trials = 2 + static_cast<std::int64_t>(std::log(static_cast<double>(params_.k)));
  RandomStream random(params_.seed, hash64("cluster.plus_plus"), static_cast<std::uint64_t>(start));
  std::vector<RowTile> tiles(static_cast<std::size_t>(workers_.size()), RowTile(d));
  std::vector<double> closest(static_cast<std::size_t>(candidates_), std::numeric_limits<double>::infinity());
  std::vector<double> distances;

  // Takes the trial that leaves the smallest sum of distances to the chosen rows; the first of equals.
  std::vector<std::int64_t> chosen;
  const auto take_best = [&](const std::vector<std::int64_t>& trial_rows) {
    const auto n = static_cast<std::int64_t>(trial_rows.size());
    std::vector<float> rows;
    for (const std::int64_t i : trial_rows) {
      const auto row = row_of(survey_.sample, i, d);
      rows.insert(rows.end(), row.begin(), row.end());
    }
    const CentroidPanels panels(rows, n, d);
    distances.resize(static_cast<std::size_t>(candidates_ * n));
    workers_.for_each((candidates_ + kTileRows - 1) / kTileRows, [&](std::int64_t unit, int worker) {
      const std::int64_t first = unit * kTileRows;
      const std::int64_t count = std::min<std::int64_t>(kTileRows, candidates_ - first);
      RowTile& tile = tiles[static_cast<std::size_t>(worker)];
      tile.load(std::span(survey_.sample).subspan(first * d, count * d), count);
      panels.squared_distances(tile, std::span(distances).subspan(first * n, count * n));
    });
    std::vector<double> potentials(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < candidates_; ++i) {
      for (std::int64_t t = 0; t < n; ++t) potentials[t] += std::min(closest[i], distances[i * n + t]);
    }
    const std::int64_t best = std::min_element(potentials.begin(), potentials.end()) - potentials.begin();
    for (std::int64_t i = 0; i < candidates_; ++i) closest[i] = std::min(closest[i], distances[i * n + best]);
    chosen.push_back(trial_rows[best]);
    return potentials[best];
  };

  double potential = take_best({static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(candidates_)))});
  std::vector<std::int64_t> trial_rows(static_cast<std::size_t>(trials));
  while (static_cast<std::int64_t>(chosen.size()) < params_.k && potential > 0) {
    for (std::int64_t& row : trial_rows) row = pick(closest, random.uniform() * potential);
    potential = take_best(trial_rows);
  }
  return chosen;
}

std::vector<std::int64_t> CentroidSeeder::try_random(std::int64_t start) const {
  RandomStream random(params_.seed, hash64("cluster.random_rows"), static_cast<std::uint64_t>(start));
  const auto differ = [&](std::int64_t a, std::int64_t b) {
    return std::ranges::lexicographical_compare(row_of(survey_.sample, a, survey_.dimension),
                                                row_of(survey_.sample, b, survey_.dimension));
  };
  std::set<std::int64_t, decltype(differ)> seen(differ);
  std::vector<std::int64_t> chosen;
  for (const std::int64_t row : random.permutation(candidates_)) {
    if (static_cast<std::int64_t>(chosen.size()) == params_.k) break;
    if (seen.insert(row).second) chosen.push_back(row);
  }
  return chosen;
}

void CentroidSeeder::add_distinct_rows() {
  DistinctRows mine(params_.k);
  comm_.together([&] {
    const std::int64_t d = survey_.dimension;
    std::vector<float> row(static_cast<std::size_t>(d));
    source_.for_each_block([&](const RowBlock& block) {
      for (std::int64_t i = 0; i < block.count; ++i) {
        prepare_rows(block.rows.subspan(static_cast<std::size_t>(i * d), static_cast<std::size_t>(d)), d,
                     params_.spherical, row);
        mine.offer(row);
      }
    });
  });
  // The k smallest of all are among the k smallest of each rank. Where a rank has k, there are enough.
  const std::vector<float> gathered = comm_.all_gather(std::span<const float>(mine.values()));
  DistinctRows all(params_.k);
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(gathered.size()) / survey_.dimension; ++i) {
    all.offer(row_of(gathered, i, survey_.dimension));
  }
  if (all.size() < params_.k) fail_for_too_few(all.size());
  const std::vector<float> added = all.values();
  survey_.sample.insert(survey_.sample.end(), added.begin(), added.end());
  candidates_ += all.size();
  complete_ = true;
}

void CentroidSeeder::fail_for_too_few(std::int64_t distinct) const {
  fail(ExitCode::input,
       "{} clusters were asked for, but the {} rows hold only {} different {}: ask for at most {} clusters, or collect "
       "more rows",
       params_.k, survey_.rows, distinct, params_.spherical ? "directions" : "rows", distinct);
}

}  // namespace moextract::cluster
