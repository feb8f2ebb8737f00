#include "cluster/row_survey.h"

#include <algorithm>
#include <array>
#include <limits>
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

  void offer(std::int64_t global, std::span<const std::uint16_t> row) {
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
    heap_.push_back({hash, global, slot});
    std::push_heap(heap_.begin(), heap_.end());
  }

  std::int64_t count_up_to(std::int64_t hash) const {
    return std::count_if(heap_.begin(), heap_.end(), [&](const Entry& entry) { return entry.hash <= hash; });
  }
  // Global numbers and bits of the rows whose hash is at most `hash`.
  std::pair<std::vector<std::int64_t>, std::vector<std::uint16_t>> rows_up_to(std::int64_t hash) const {
    std::pair<std::vector<std::int64_t>, std::vector<std::uint16_t>> found;
    for (const Entry& entry : heap_) {
      if (entry.hash > hash) continue;
      const auto first = bits_.begin() + static_cast<std::ptrdiff_t>(entry.slot * dimension_);
      found.first.push_back(entry.global);
      found.second.insert(found.second.end(), first, first + static_cast<std::ptrdiff_t>(dimension_));
    }
    return found;
  }

 private:
  struct Entry {
    std::int64_t hash, global;
    std::size_t slot;
    bool operator<(const Entry& other) const { return std::pair(hash, global) < std::pair(other.hash, other.global); }
  };
  std::size_t capacity_, dimension_;
  std::uint64_t seed_, purpose_;
  std::vector<Entry> heap_;  // largest first
  std::vector<std::uint16_t> bits_;
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
  const auto [my_numbers, my_bits] = mine.rows_up_to(bound);
  const auto numbers = comm.all_gather(std::span<const std::int64_t>(my_numbers));
  const auto bits = comm.all_gather(std::span<const std::uint16_t>(my_bits));
  std::vector<std::size_t> order(numbers.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return numbers[a] < numbers[b]; });

  const auto d = static_cast<std::size_t>(survey.dimension);
  survey.sampled = static_cast<std::int64_t>(order.size());
  survey.sample.resize(order.size() * d);
  for (std::size_t i = 0; i < order.size(); ++i) {
    prepare_rows(std::span(bits).subspan(order[i] * d, d), survey.dimension, spherical,
                 std::span(survey.sample).subspan(i * d, d));
  }
}

}  // namespace

RowSurvey survey_rows(const RowSource& source, std::int64_t sample_rows, bool spherical, std::uint64_t seed,
                      comm::Communicator& comm, Workers& workers) {
  const std::int64_t local = source.local_rows();
  const std::int64_t d = source.dimension();
  SmallestHashes smallest(sample_rows, d, seed);
  std::uint16_t largest = 0;
  comm.together([&] {
    if (local == 0) return;
    if (d <= 0) fail(ExitCode::input, "the rows to be clustered have dimension {}", d);
    source.for_each_block([&](const RowBlock& block) {
      MOEX_ASSERT(block.rows.size() == static_cast<std::size_t>(block.count * d), "a block is not [count, dimension]");
      largest = std::max(largest, largest_magnitude(block.rows, d, block.first_global));
      for (std::int64_t i = 0; i < block.count; ++i) {
        smallest.offer(block.first_global + i,
                       block.rows.subspan(static_cast<std::size_t>(i * d), static_cast<std::size_t>(d)));
      }
    });
  });

  // Ranks without rows need not know the dimension.
  std::array<std::int64_t, 3> extremes = {local > 0 ? d : -kInt64Max, local > 0 ? -d : -kInt64Max, largest};
  comm.all_reduce(std::span<std::int64_t>(extremes), comm::Reduction::max);
  RowSurvey survey;
  survey.rows = comm.all_reduce_value(local, comm::Reduction::sum);
  if (survey.rows == 0) {
    fail(ExitCode::input, "there are no rows to cluster: the collected activations are empty; collect some first");
  }
  if (extremes[0] != -extremes[1]) {
    fail(ExitCode::input, "rows of different dimensions cannot be clustered together: {} on one rank, {} on another",
         -extremes[1], extremes[0]);
  }
  survey.dimension = extremes[0];
  survey.largest = static_cast<float>(static_cast<double>(float16_to_fixed(static_cast<std::uint16_t>(extremes[2]))) *
                                      kFloat16FixedUnit);
  gather_sample(smallest, sample_rows, spherical, comm, survey);
  return survey;
}

}  // namespace moextract::cluster
