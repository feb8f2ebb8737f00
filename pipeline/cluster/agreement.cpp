#include "cluster/agreement.h"

#include <map>
#include <utility>
#include <vector>

#include "comm/backends.h"
#include "core/error.h"

namespace moextract::cluster {
namespace {

long double pairs(std::int64_t n) {
  return static_cast<long double>(n) * static_cast<long double>(n - 1) / 2;
}

}  // namespace

double adjusted_rand_index(std::span<const std::int32_t> a, std::span<const std::int32_t> b, comm::Communicator& comm) {
  using Pair = std::pair<std::int32_t, std::int32_t>;
  std::map<Pair, std::int64_t> both;
  comm.together([&] {
    if (a.size() != b.size()) {
      fail(ExitCode::input, "labelings of {} and {} rows cannot be compared: they must be of the same rows", a.size(),
           b.size());
    }
    for (std::size_t i = 0; i < a.size(); ++i) ++both[{a[i], b[i]}];
  });
  std::vector<std::int64_t> entries;
  for (const auto& [pair, count] : both) entries.insert(entries.end(), {pair.first, pair.second, count});
  entries = comm.all_gather(std::span<const std::int64_t>(entries));
  both.clear();
  std::map<std::int32_t, std::int64_t> of_a, of_b;
  std::int64_t rows = 0;
  for (std::size_t i = 0; i < entries.size(); i += 3) {
    const auto x = static_cast<std::int32_t>(entries[i]), y = static_cast<std::int32_t>(entries[i + 1]);
    both[{x, y}] += entries[i + 2];
    of_a[x] += entries[i + 2];
    of_b[y] += entries[i + 2];
    rows += entries[i + 2];
  }
  if (rows == 0) fail(ExitCode::input, "labelings of no rows cannot be compared");
  long double same = 0, same_a = 0, same_b = 0;
  for (const auto& entry : both) same += pairs(entry.second);
  for (const auto& entry : of_a) same_a += pairs(entry.second);
  for (const auto& entry : of_b) same_b += pairs(entry.second);
  const long double expected = rows > 1 ? same_a * same_b / pairs(rows) : 0, most = (same_a + same_b) / 2;
  if (most == expected) return 1;  // both trivial, and then the same
  return static_cast<double>((same - expected) / (most - expected));
}

double adjusted_rand_index(std::span<const std::int32_t> a, std::span<const std::int32_t> b) {
  return adjusted_rand_index(a, b, *comm::make_self());
}

}  // namespace moextract::cluster
