#include "cluster/kmeans_init.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <mutex>
#include <numeric>
#include <set>
#include <span>
#include <string_view>
#include <utility>

#include "cluster/nearest.h"
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

// Draws without putting back, each row as likely as its weight: in whole numbers, hence the same on every machine.
class WeightedDraws {
 public:
  explicit WeightedDraws(std::span<const std::int64_t> weights) : sums_(weights.size() + 1) {
    for (std::size_t i = 0; i < weights.size(); ++i) change(static_cast<std::int64_t>(i), weights[i]);
  }
  /// Weight of the rows that are left.
  std::int64_t left() const { return left_; }
  /// Index of a row, which is not drawn again; something is left.
  std::int64_t draw(RandomStream& random, std::span<const std::int64_t> weights) {
    auto target = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(left_)));
    std::size_t at = 0;  // rows before the one that `target` of the running sum falls in
    for (std::size_t step = std::bit_floor(sums_.size() - 1); step > 0; step /= 2) {
      if (at + step >= sums_.size() || sums_[at + step] > target) continue;
      at += step;
      target -= sums_[at];
    }
    const auto row = static_cast<std::int64_t>(at);
    change(row, -weights[at]);
    return row;
  }

 private:
  void change(std::int64_t row, std::int64_t by) {
    left_ += by;
    for (std::size_t at = static_cast<std::size_t>(row) + 1; at < sums_.size(); at += at & -at) sums_[at] += by;
  }

  std::vector<std::int64_t> sums_;  // a Fenwick tree
  std::int64_t left_ = 0;
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
  if (params_.init == KMeansInit::parallel) {
    std::vector<float> centroids = try_parallel(start);
    if (!centroids.empty()) return centroids;
  }
  return draw_from_sample(start);
}

std::vector<float> CentroidSeeder::draw_from_sample(std::int64_t start) {
  const auto attempt = [&] {
    if (params_.init == KMeansInit::random) return try_random(start);
    return plus_plus(survey_.sample, survey_.sample_weights,
                     RandomStream(params_.seed, hash64("cluster.plus_plus"), static_cast<std::uint64_t>(start)));
  };
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
std::vector<std::int64_t> CentroidSeeder::plus_plus(std::span<const float> rows, std::span<const std::int64_t> weights,
                                                    RandomStream random) {
  const std::int64_t d = survey_.dimension;
  const auto n = static_cast<std::int64_t>(rows.size()) / d;
  const auto trials = 2 + static_cast<std::int64_t>(std::log(static_cast<double>(params_.k)));
  const auto row_at = [&](std::int64_t i) {
    return rows.subspan(static_cast<std::size_t>(i * d), static_cast<std::size_t>(d));
  };
  std::vector<RowTile> tiles(static_cast<std::size_t>(workers_.size()), RowTile(d));
  std::vector<double> factors(weights.begin(), weights.end());
  factors.resize(static_cast<std::size_t>(n), 1.0);
  std::vector<double> closest(static_cast<std::size_t>(n), std::numeric_limits<double>::infinity());
  std::vector<double> distances, weighted(closest.size());

  // Takes the trial that leaves the smallest sum of distances to the chosen rows; the first of equals.
  std::vector<std::int64_t> chosen;
  const auto take_best = [&](const std::vector<std::int64_t>& trial_rows) {
    const auto count = static_cast<std::int64_t>(trial_rows.size());
    std::vector<float> tried;
    for (const std::int64_t i : trial_rows) tried.insert(tried.end(), row_at(i).begin(), row_at(i).end());
    const CentroidPanels panels(tried, count, d);
    distances.resize(static_cast<std::size_t>(n * count));
    workers_.for_each((n + kTileRows - 1) / kTileRows, [&](std::int64_t unit, int worker) {
      const std::int64_t first = unit * kTileRows;
      const std::int64_t tile_rows = std::min<std::int64_t>(kTileRows, n - first);
      RowTile& tile = tiles[static_cast<std::size_t>(worker)];
      tile.load(rows.subspan(static_cast<std::size_t>(first * d), static_cast<std::size_t>(tile_rows * d)), tile_rows);
      panels.squared_distances(tile, std::span(distances).subspan(first * count, tile_rows * count));
    });
    std::vector<double> potentials(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t t = 0; t < count; ++t) {
        potentials[t] += factors[i] * std::min(closest[i], distances[i * count + t]);
      }
    }
    const std::int64_t best = std::min_element(potentials.begin(), potentials.end()) - potentials.begin();
    for (std::int64_t i = 0; i < n; ++i) {
      closest[i] = std::min(closest[i], distances[i * count + best]);
      weighted[i] = factors[i] * closest[i];
    }
    chosen.push_back(trial_rows[best]);
    return potentials[best];
  };

  double potential =
      take_best({pick(factors, random.uniform() * std::accumulate(factors.begin(), factors.end(), 0.0))});
  std::vector<std::int64_t> trial_rows(static_cast<std::size_t>(trials));
  while (static_cast<std::int64_t>(chosen.size()) < params_.k && potential > 0) {
    for (std::int64_t& row : trial_rows) row = pick(weighted, random.uniform() * potential);
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
  const auto take = [&](std::int64_t row) {
    if (seen.insert(row).second) chosen.push_back(row);
    return static_cast<std::int64_t>(chosen.size()) == params_.k;
  };
  const std::span<const std::int64_t> weights(survey_.sample_weights);
  if (std::ranges::adjacent_find(weights, std::ranges::not_equal_to()) == weights.end()) {
    for (const std::int64_t row : random.permutation(candidates_)) {
      if (take(row)) break;
    }
    return chosen;
  }
  WeightedDraws draws(weights);
  while (draws.left() > 0 && !take(draws.draw(random, weights))) {
  }
  return chosen;
}

// Empty if the rows taken hold fewer than k different ones.
std::vector<float> CentroidSeeder::try_parallel(std::int64_t start) {
  const std::int64_t d = survey_.dimension, local = source_.local_rows();
  const DistanceScale scale(params_.spherical ? 1.0f : survey_.largest, d);
  const auto purpose = [&](std::int64_t round) { return hash64(fmt::format("cluster.parallel.{}.{}", start, round)); };
  std::vector<double> closest(static_cast<std::size_t>(local), std::numeric_limits<double>::infinity());
  std::vector<std::int32_t> owners(static_cast<std::size_t>(local));
  RandomStream random(params_.seed, purpose(0));
  // Not among the rows that an earlier start added: a start draws the same whatever came before it.
  const auto sampled =
      std::span<const std::int64_t>(survey_.sample_weights).first(static_cast<std::size_t>(survey_.sampled));
  const auto first = row_of(survey_.sample, WeightedDraws(sampled).draw(random, sampled), d);
  std::vector<float> taken, fresh(first.begin(), first.end());
  std::vector<std::int64_t> weights;
  for (std::int64_t round = 1;; ++round) {
    const auto before = static_cast<std::int32_t>(static_cast<std::int64_t>(taken.size()) / d);
    taken.insert(taken.end(), fresh.begin(), fresh.end());
    const auto count = static_cast<std::int64_t>(taken.size()) / d;
    const double potential = update_closest(fresh, before, closest, owners, scale, count, weights);
    if (round > params_.init_rounds || potential == 0) break;
    fresh = take_rows(closest, params_.init_oversampling * static_cast<double>(params_.k) / potential, purpose(round));
    if (fresh.empty()) break;
  }
  if (static_cast<std::int64_t>(taken.size()) < params_.k * d) return {};
  const std::vector<std::int64_t> chosen = plus_plus(taken, weights, RandomStream(params_.seed, purpose(-1)));
  if (static_cast<std::int64_t>(chosen.size()) < params_.k) return {};
  std::vector<float> centroids;
  for (const std::int64_t i : chosen) {
    const auto row = row_of(taken, i, d);
    centroids.insert(centroids.end(), row.begin(), row.end());
  }
  return centroids;
}

// Collective. `closest` and `owners` (numbers of candidates) after the candidates `fresh`, numbered from `before`, have
// come; `weights` of all `count` candidates' rows. Returns the sum of the squared distances, the same on every rank.
double CentroidSeeder::update_closest(std::span<const float> fresh, std::int32_t before, std::span<double> closest,
                                      std::span<std::int32_t> owners, const DistanceScale& scale, std::int64_t count,
                                      std::vector<std::int64_t>& weights) {
  const std::int64_t d = survey_.dimension, n = static_cast<std::int64_t>(fresh.size()) / d;
  struct Bench {
    NearestScratch scratch;
    RowTile tile;
    std::vector<RoundedRow> rounded;
    std::vector<std::int64_t> weights;
    __int128 sum = 0;
  };
  std::vector<Bench> benches(static_cast<std::size_t>(workers_.size()),
                             Bench{NearestScratch(n, d, kTileRows), RowTile(d), std::vector<RoundedRow>(kTileRows),
                                   std::vector<std::int64_t>(static_cast<std::size_t>(count)), 0});
  comm_.together([&] {
    const NearestCentroids nearest(fresh, n, d);
    const CentroidPanels panels(fresh, n, d);
    TilePass(source_, workers_).run([&](const TileView& view, int worker) {
      Bench& bench = benches[static_cast<std::size_t>(worker)];
      largest_magnitude(view.rows, d, view.first_global);
      bench.tile.load(view.rows, view.count, params_.spherical);
      for (std::int64_t i = 0; i < view.count; ++i) {
        nearest.round(bench.tile.row(i), bench.scratch, i, bench.rounded[static_cast<std::size_t>(i)]);
      }
      const auto rounded = std::span(bench.rounded).first(static_cast<std::size_t>(view.count));
      nearest.all_scores(rounded, bench.scratch, [&](std::size_t at, const NearestCentroids::RowScores& scores) {
        const auto i = static_cast<std::int64_t>(at);
        const std::int32_t label =
            scores.label >= 0 ? scores.label : nearest.decide(bench.tile.row(i), scores.candidates, bench.scratch);
        const double distance = panels.squared_distance(bench.tile, i, label);
        const auto local = static_cast<std::size_t>(view.first_local + i);
        if (distance < closest[local]) {
          closest[local] = distance;
          owners[local] = before + label;
        }
        const std::int64_t weight = view.weight(i);
        bench.weights[static_cast<std::size_t>(owners[local])] += weight;
        bench.sum += static_cast<__int128>(scale.to_fixed(closest[local])) * weight;
      });
    });
  });
  std::vector<std::int64_t> words(static_cast<std::size_t>(count) + 2);
  for (const Bench& bench : benches) {
    std::int64_t high = 0, low = 0;
    DistanceScale::split(bench.sum, high, low);
    words[0] += high;
    words[1] += low;
    for (std::size_t c = 0; c < bench.weights.size(); ++c) words[c + 2] += bench.weights[c];
  }
  comm_.all_reduce(std::span<std::int64_t>(words), comm::Reduction::sum);
  weights.assign(words.begin() + 2, words.end());
  return scale.to_double(DistanceScale::join(words[0], words[1]));
}

// Collective. The prepared rows that are taken with probability closest * weight * scale, in the order of their
// numbers.
std::vector<float> CentroidSeeder::take_rows(std::span<const double> closest, double scale, std::uint64_t purpose) {
  const std::int64_t d = survey_.dimension;
  std::vector<std::int64_t> numbers;
  std::vector<float> rows;
  comm_.together([&] {
    std::vector<float> row(static_cast<std::size_t>(d));
    std::mutex mutex;
    TilePass(source_, workers_).run([&](const TileView& view, int) {
      for (std::int64_t i = 0; i < view.count; ++i) {
        const double chance =
            scale * closest[static_cast<std::size_t>(view.first_local + i)] * static_cast<double>(view.weight(i));
        const std::int64_t number = view.first_global + i;
        if (RandomStream(params_.seed, purpose, static_cast<std::uint64_t>(number)).uniform() >= chance) continue;
        const std::lock_guard lock(mutex);
        prepare_rows(view.row(i), d, params_.spherical, row);
        numbers.push_back(number);
        rows.insert(rows.end(), row.begin(), row.end());
      }
    });
  });
  numbers = comm_.all_gather(std::span<const std::int64_t>(numbers));
  rows = comm_.all_gather(std::span<const float>(rows));
  std::vector<std::int64_t> order(numbers.size());
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) { return numbers[a] < numbers[b]; });
  std::vector<float> sorted;
  for (const std::int64_t i : order) {
    const auto row = row_of(rows, i, d);
    sorted.insert(sorted.end(), row.begin(), row.end());
  }
  return sorted;
}

void CentroidSeeder::add_distinct_rows() {
  DistinctRows mine(params_.k);
  comm_.together([&] {
    const std::int64_t d = survey_.dimension;
    std::vector<float> row(static_cast<std::size_t>(d));
    source_.for_each_block([&](const RowBlock& block) {
      for (std::int64_t i = 0; i < block.count; ++i) {
        if (!block.weights.empty() && block.weights[static_cast<std::size_t>(i)] == 0) continue;
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
  survey_.sample_weights.resize(survey_.sample_weights.size() + static_cast<std::size_t>(all.size()), 1);
  candidates_ += all.size();
  complete_ = true;
}

void CentroidSeeder::fail_for_too_few(std::int64_t distinct) const {
  throw TooFewRows(params_.k, survey_.rows, distinct, params_.spherical);
}

}  // namespace moextract::cluster
