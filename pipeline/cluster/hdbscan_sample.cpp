#include "cluster/hdbscan_sample.h"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <span>

#include "cluster/tile_pass.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/random.h"

namespace moextract::cluster::hdbscan {
namespace {

constexpr std::int64_t kInt64Max = std::numeric_limits<std::int64_t>::max();

// Hash of each local row's number, 63 bits so that they compare as int64. Checks the rows on the way.
std::vector<std::int64_t> hash_rows(const RowSource& source, std::uint64_t seed) {
  const std::int64_t d = source.dimension(), local = source.local_rows();
  if (local > 0 && d <= 0) fail(ExitCode::input, "the rows to be clustered have dimension {}", d);
  std::vector<std::int64_t> hashes;
  if (local == 0) return hashes;
  hashes.reserve(static_cast<std::size_t>(local));
  const std::uint64_t purpose = hash64("cluster.hdbscan_sample");
  source.for_each_block([&](const RowBlock& block) {
    MOEX_ASSERT(block.rows.size() == static_cast<std::size_t>(block.count * d), "a block is not [count, dimension]");
    largest_magnitude(block.rows, d, block.first_global);
    for (std::int64_t i = 0; i < block.count; ++i) {
      const auto number = static_cast<std::uint64_t>(block.first_global + i);
      hashes.push_back(static_cast<std::int64_t>(RandomStream(seed, purpose, number).next() >> 1));
    }
  });
  if (static_cast<std::int64_t>(hashes.size()) != local) {
    fail(ExitCode::input, "the rows to be clustered changed while they were read: {} were announced, {} came", local,
         hashes.size());
  }
  return hashes;
}

// Smallest bound with at least `wanted` hashes of the whole set at or below it; by bisection, so that no rank holds
// the others' hashes.
std::int64_t agree_on_bound(std::vector<std::int64_t> hashes, std::int64_t wanted, comm::Communicator& comm) {
  std::sort(hashes.begin(), hashes.end());
  std::int64_t low = 0, high = kInt64Max;
  while (low < high) {
    const std::int64_t middle = low + (high - low) / 2;
    const std::int64_t mine = std::upper_bound(hashes.begin(), hashes.end(), middle) - hashes.begin();
    if (comm.all_reduce_value(mine, comm::Reduction::sum) >= wanted) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

}  // namespace

Sample draw_sample(const RowSource& source, std::int64_t wanted, std::uint64_t seed, comm::Communicator& comm) {
  std::vector<std::int64_t> hashes;
  comm.together([&] { hashes = hash_rows(source, seed); });
  const std::int64_t local = source.local_rows();
  Sample sample;
  sample.rows_in_set = comm.all_reduce_value(local, comm::Reduction::sum);
  if (sample.rows_in_set == 0) {
    fail(ExitCode::input, "there are no rows to cluster: the collected activations are empty; collect some first");
  }
  // Ranks without rows need not know the dimension.
  const std::int64_t d = source.dimension();
  std::array<std::int64_t, 2> extremes = {local > 0 ? d : -kInt64Max, local > 0 ? -d : -kInt64Max};
  comm.all_reduce(std::span<std::int64_t>(extremes), comm::Reduction::max);
  if (extremes[0] != -extremes[1]) {
    fail(ExitCode::input, "rows of different dimensions cannot be clustered together: {} on one rank, {} on another",
         -extremes[1], extremes[0]);
  }
  sample.dimension = extremes[0];

  const std::int64_t bound = sample.rows_in_set <= wanted ? kInt64Max : agree_on_bound(hashes, wanted, comm);
  std::vector<std::int64_t> numbers;
  std::vector<std::uint16_t> bits;
  comm.together([&] {
    if (local == 0) return;
    std::size_t at = 0;
    source.for_each_block([&](const RowBlock& block) {
      for (std::int64_t i = 0; i < block.count; ++i, ++at) {
        if (at >= hashes.size() || hashes[at] > bound) continue;
        numbers.push_back(block.first_global + i);
        const auto row = block.rows.subspan(static_cast<std::size_t>(i * d), static_cast<std::size_t>(d));
        bits.insert(bits.end(), row.begin(), row.end());
      }
    });
  });
  const auto all_numbers = comm.all_gather(std::span<const std::int64_t>(numbers));
  const auto all_bits = comm.all_gather(std::span<const std::uint16_t>(bits));
  std::vector<std::size_t> order(all_numbers.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return all_numbers[a] < all_numbers[b]; });
  sample.bits.reserve(all_bits.size());
  for (const std::size_t from : order) {
    if (!sample.numbers.empty() && sample.numbers.back() == all_numbers[from]) {
      fail(ExitCode::input, "two of the rows to be clustered have the global number {}", all_numbers[from]);
    }
    sample.numbers.push_back(all_numbers[from]);
    const auto first = all_bits.begin() + static_cast<std::ptrdiff_t>(from) * sample.dimension;
    sample.bits.insert(sample.bits.end(), first, first + sample.dimension);
  }
  return sample;
}

}  // namespace moextract::cluster::hdbscan
