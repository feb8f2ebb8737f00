// The parts of a communicator that are the same for all back ends, made of the collectives each back end brings.
#include "comm/communicator.h"

#include <algorithm>

#include "comm/failure.h"
#include "comm/pieces.h"

namespace moextract::comm {
namespace {

/// Gathers the ranks' parts piece by piece and adds them in rank order. Every rank receives size() * data.size()
/// elements, where a tree would receive about twice data.size(): the price of bits that no library version or topology
/// changes. Memory beside `data`: about twice PieceSizes::ordered_bytes, whatever the length.
template <class T>
void sum_in_rank_order(Communicator& ranks, std::span<T> data) {
  const auto size = static_cast<std::size_t>(ranks.size());
  if (size == 1) return;

  // all_gather takes unequal parts, so a length that differs would go unnoticed or end in a hang; all see it here.
  const auto length = static_cast<std::int64_t>(data.size());
  const std::vector<std::int64_t> lengths = ranks.all_gather(std::span<const std::int64_t>(&length, 1));
  const auto other = std::find_if(lengths.begin(), lengths.end(), [&](std::int64_t l) { return l != lengths[0]; });
  MOEX_ASSERT(other == lengths.end(), fmt::format("all_reduce_ordered: rank 0 passes {} elements, rank {} passes {}",
                                                  lengths[0], other - lengths.begin(), *other));

  const std::size_t piece = piece_length(piece_sizes().ordered_bytes, size * sizeof(T));
  for (std::size_t first = 0; first < data.size(); first += piece) {
    const std::span<T> mine = data.subspan(first, std::min(piece, data.size() - first));
    const std::vector<T> all = ranks.all_gather(std::span<const T>(mine));
    std::copy_n(all.begin(), mine.size(), mine.begin());
    for (std::size_t rank = 1; rank < size; ++rank) {
      const T* part = all.data() + rank * mine.size();
      for (std::size_t i = 0; i < mine.size(); ++i) mine[i] += part[i];
    }
  }
}

}  // namespace

std::string Communicator::broadcast_text(const std::string& text, int root) {
  auto length = static_cast<std::int64_t>(text.size());
  broadcast(std::span<std::int64_t>(&length, 1), root);
  std::string result = rank() == root ? text : std::string(static_cast<std::size_t>(length), '\0');
  broadcast(std::span<char>(result), root);
  return result;
}

std::vector<std::string> Communicator::all_gather_text(const std::string& mine) {
  const auto length = static_cast<std::int64_t>(mine.size());
  const std::vector<std::int64_t> lengths = all_gather(std::span<const std::int64_t>(&length, 1));
  const std::vector<char> characters = all_gather(std::span<const char>(mine));
  std::vector<std::string> texts;
  texts.reserve(lengths.size());
  std::size_t first = 0;
  for (const std::int64_t count : lengths) {
    texts.emplace_back(characters.data() + first, static_cast<std::size_t>(count));
    first += static_cast<std::size_t>(count);
  }
  return texts;
}

void Communicator::all_reduce_ordered(std::span<double> data) {
  sum_in_rank_order(*this, data);
}
void Communicator::all_reduce_ordered(std::span<float> data) {
  sum_in_rank_order(*this, data);
}

void Communicator::all_reduce_device(void*, std::size_t count, ElementType, Reduction) {
  MOEX_ASSERT(reaches_devices(), fmt::format("{} elements in GPU memory, but the communicator '{}' of {} ranks reaches "
                                             "host memory only",
                                             count, name(), size()));
}

void Communicator::agree(std::exception_ptr mine) {
  if (size() == 1) {
    if (mine) std::rethrow_exception(mine);
    return;
  }
  const std::int64_t nobody = size();
  const std::int64_t failed = all_reduce_value(mine ? std::int64_t{rank()} : nobody, Reduction::min);
  if (failed == nobody) return;

  const int root = static_cast<int>(failed);
  Failure failure;
  if (rank() == root) failure = describe_failure(mine, rank());
  std::int32_t numbers[2] = {static_cast<std::int32_t>(failure.code), failure.rank};
  broadcast(std::span<std::int32_t>(numbers), root);
  // The failing rank throws the same as the others: whoever catches it sees one message everywhere.
  throw RemoteFailure(static_cast<ExitCode>(numbers[0]), numbers[1], broadcast_text(failure.message, root));
}

}  // namespace moextract::comm
