#include "cluster/row_survey.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <mutex>
#include <numeric>
#include <span>
#include <utility>

#include "cluster/tile_pass.h"
#include "core/error.h"
#include "core/float16.h"
#include "core/hash.h"
#include "core/random.h"

namespace moextract::cluster {
namespace {

constexpr std::int64_t kInt64Max = std::numeric_limits<std::int64_t>::max();

// The rows of one rank with the smallest hashes, kept while the rows stream by.
class SmallestHashes {
 public:
  SmallestHashes(std::int64_t capacity, std::int64_t dimension, std::uint64_t seed)
      : capacity_(static_cast<std::size_t>(capacity)),
        dimension_(static_cast<std::size_t>(dimension)),
        seed_(seed),
        purpose_(hash64("cluster.init_sample")) {}

  std::mutex& mutex() { return mutex_; }

  // Rows of weight 0 are none.
  void offer(std::int64_t global, std::span<const std::uint16_t> row, std::int64_t weight) {
    if (weight == 0) return;
    // 63 bits, so that hashes can be compared and counted as int64.
    const auto hash =
        static_cast<std::int64_t>(RandomStream(seed_, purpose_, static_cast<std::uint64_t>(global)).next() >> 1);
    std::size_t slot = heap_.size();
    if (slot == capacity_) {
      if (std::pair(hash, global) >= std::pair(heap_.front().hash, heap_.front().global)) return;
      std::pop_heap(heap_.begin(), heap_.end());
      slot = heap_.back().slot;
      heap_.pop_back();
    } else {
      bits_.resize((slot + 1) * dimension_);
    }
    std::copy(row.begin(), row.end(), bits_.begin() + static_cast<std::ptrdiff_t>(slot * dimension_));
    heap_.push_back({hash, global, weight, slot});
    std::push_heap(heap_.begin(), heap_.end());
  }

  std::int64_t count_up_to(std::int64_t hash) const {
    return std::count_if(heap_.begin(), heap_.end(), [&](const Entry& entry) { return entry.hash <= hash; });
  }
  struct Found {
    std::vector<std::int64_t> numbers, weights;
    std::vector<std::uint16_t> bits;
  };
  // The rows whose hash is at most `hash`.
  Found rows_up_to(std::int64_t hash) const {
    Found found;
    for (const Entry& entry : heap_) {
      if (entry.hash > hash) continue;
      const auto first = bits_.begin() + static_cast<std::ptrdiff_t>(entry.slot * dimension_);
      found.numbers.push_back(entry.global);
      found.weights.push_back(entry.weight);
      found.bits.insert(found.bits.end(), first, first + static_cast<std::ptrdiff_t>(dimension_));
    }
    return found;
  }

 private:
  struct Entry {
    std::int64_t hash, global, weight;
    std::size_t slot;
    bool operator<(const Entry& other) const { return std::pair(hash, global) < std::pair(other.hash, other.global); }
  };
  std::size_t capacity_, dimension_;
  std::uint64_t seed_, purpose_;
  std::vector<Entry> heap_;  // largest first
  std::vector<std::uint16_t> bits_;
  std::mutex mutex_;
};

// Smallest bound with at least `wanted` rows of the whole set at or below it: by bisection, so that no rank has to hold
// the hashes of all others.
std::int64_t agree_on_bound(const SmallestHashes& mine, std::int64_t wanted, comm::Communicator& comm) {
  std::int64_t low = 0, high = kInt64Max;
  while (low < high) {
    const std::int64_t middle = low + (high - low) / 2;
    if (comm.all_reduce_value(mine.count_up_to(middle), comm::Reduction::sum) >= wanted) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

void gather_sample(const SmallestHashes& mine, std::int64_t wanted, bool spherical, comm::Communicator& comm,
                   RowSurvey& survey) {
  const std::int64_t bound = survey.rows <= wanted ? kInt64Max : agree_on_bound(mine, wanted, comm);
  const SmallestHashes::Found found = mine.rows_up_to(bound);
  const auto numbers = comm.all_gather(std::span<const std::int64_t>(found.numbers));
  const auto weights = comm.all_gather(std::span<const std::int64_t>(found.weights));
  const auto bits = comm.all_gather(std::span<const std::uint16_t>(found.bits));
  std::vector<std::size_t> order(numbers.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return numbers[a] < numbers[b]; });

  const auto d = static_cast<std::size_t>(survey.dimension);
  survey.sampled = static_cast<std::int64_t>(order.size());
  survey.sample.resize(order.size() * d);
  for (std::size_t i = 0; i < order.size(); ++i) {
    survey.sample_weights.push_back(weights[order[i]]);
    prepare_rows(std::span(bits).subspan(order[i] * d, d), survey.dimension, spherical,
                 std::span(survey.sample).subspan(i * d, d));
  }
}

// Sum of the squares of values that are multiples of 2^-24, in units of 2^-48.
unsigned __int128 squares_of(std::span<const float> row, bool small) {
  unsigned __int128 sum = 0;
  if (!small) {
    for (const float value : row) {
      const auto fixed = static_cast<std::int64_t>(static_cast<double>(value) * 0x1.0p24);
      sum += static_cast<unsigned __int128>(static_cast<__int128>(fixed) * fixed);
    }
    return sum;
  }
  std::uint64_t high = 0, low = 0;  // of 64-bit squares, apart: neither overflows below 2^32 values
  for (const float value : row) {
    const auto fixed = static_cast<std::uint32_t>(static_cast<std::int32_t>(std::fabs(value) * 0x1.0p24f));
    const std::uint64_t square = static_cast<std::uint64_t>(fixed) * fixed;
    high += square >> 32;
    low += square & 0xffffffffu;
  }
  return (static_cast<unsigned __int128>(high) << 32) + low;
}

// What one worker saw.
struct Tally {
  std::uint16_t largest = 0;
  std::int64_t weight = 0;
  unsigned __int128 squares = 0;
  std::vector<float> row;
};

void tally_tile(const TileView& tile, bool spherical, Tally& tally) {
  const std::uint16_t largest = largest_magnitude(tile.rows, tile.dimension, tile.first_global);
  tally.largest = std::max(tally.largest, largest);
  const bool small = spherical || largest < 0x5800;  // 128
  tally.row.resize(static_cast<std::size_t>(tile.dimension));
  for (std::int64_t i = 0; i < tile.count; ++i) {
    const std::int64_t weight = tile.weight(i);
    if (weight > kMostWeight) {
      fail(ExitCode::input, "row {} (counted over all ranks) has weight {}, but weights are at most {}",
           tile.first_global + i, weight, kMostWeight);
    }
    prepare_rows(tile.row(i), tile.dimension, spherical, tally.row);
    tally.weight += weight;
    tally.squares += squares_of(tally.row, small) * static_cast<unsigned __int128>(weight);
  }
}

}  // namespace

RowSurvey survey_rows(const RowSource& source, std::int64_t sample_rows, bool spherical, std::uint64_t seed,
                      comm::Communicator& comm, Workers& workers) {
  const std::int64_t local = source.local_rows();
  const std::int64_t d = source.dimension();
  SmallestHashes smallest(sample_rows, d, seed);
  std::vector<Tally> tallies(static_cast<std::size_t>(workers.size()));
  comm.together([&] {
    if (local == 0) return;
    if (d <= 0) fail(ExitCode::input, "the rows to be clustered have dimension {}", d);
    TilePass(source, workers).run([&](const TileView& tile, int worker) {
      tally_tile(tile, spherical, tallies[static_cast<std::size_t>(worker)]);
      if (sample_rows == 0) return;
      const std::lock_guard lock(smallest.mutex());
      for (std::int64_t i = 0; i < tile.count; ++i) smallest.offer(tile.first_global + i, tile.row(i), tile.weight(i));
    });
  });
  Tally mine;
  for (const Tally& tally : tallies) {
    mine.largest = std::max(mine.largest, tally.largest);
    mine.weight += tally.weight;
    mine.squares += tally.squares;
  }

  // Ranks without rows need not know the dimension.
  std::array<std::int64_t, 3> extremes = {local > 0 ? d : -kInt64Max, local > 0 ? -d : -kInt64Max, mine.largest};
  comm.all_reduce(std::span<std::int64_t>(extremes), comm::Reduction::max);
  RowSurvey survey;
  // Three words of 40 bits and a rest, so that ranks can be summed.
  std::array<std::int64_t, 5> sums = {local, mine.weight};
  for (int i = 0; i < 3; ++i) {
    sums[2 + i] =
        static_cast<std::int64_t>((mine.squares >> (40 * i)) & (i < 2 ? (std::uint64_t{1} << 40) - 1 : ~0ull));
  }
  comm.all_reduce(std::span<std::int64_t>(sums), comm::Reduction::sum);
  survey.rows = sums[0];
  survey.weight = sums[1];
  for (int i = 0; i < 3; ++i) survey.squares += static_cast<__int128>(sums[2 + i]) << (40 * i);
  if (survey.rows == 0) {
    fail(ExitCode::input, "there are no rows to cluster: the collected activations are empty; collect some first");
  }
  if (extremes[0] != -extremes[1]) {
    fail(ExitCode::input, "rows of different dimensions cannot be clustered together: {} on one rank, {} on another",
         -extremes[1], extremes[0]);
  }
  if (survey.weight == 0) fail(ExitCode::input, "all rows to be clustered have weight 0");
  survey.dimension = extremes[0];
  survey.largest = static_cast<float>(static_cast<double>(float16_to_fixed(static_cast<std::uint16_t>(extremes[2]))) *
                                      kFloat16FixedUnit);
  if (sample_rows > 0) gather_sample(smallest, sample_rows, spherical, comm, survey);
  return survey;
}

}  // namespace moextract::cluster
