// Ranks as threads of one process: for tests, and for one machine without a launcher.
#include <algorithm>
#include <cstdlib>
#include <thread>

#include "comm/backends.h"
#include "comm/thread_hub.h"

namespace moextract::comm {
namespace {

/// Reduces elements first .. last-1 of all ranks in rank order and leaves the result in all of them. Ranks take
/// disjoint ranges, so they work side by side without a buffer of their own.
template <class T, class Combine>
void reduce_range(ThreadHub& hub, std::size_t first, std::size_t last, Combine combine) {
  T* result = reinterpret_cast<T*>(hub.part(0).data());
  for (int rank = 1; rank < hub.size(); ++rank) {
    const T* part = reinterpret_cast<const T*>(hub.part(rank).data());
    for (std::size_t i = first; i < last; ++i) result[i] = combine(result[i], part[i]);
  }
  for (int rank = 1; rank < hub.size(); ++rank) {
    std::copy(result + first, result + last, reinterpret_cast<T*>(hub.part(rank).data()) + first);
  }
}

template <class T>
void reduce_range(ThreadHub& hub, std::size_t first, std::size_t last, Reduction reduction) {
  switch (reduction) {
    case Reduction::sum:
      return reduce_range<T>(hub, first, last, [](T a, T b) { return a + b; });
    case Reduction::min:
      return reduce_range<T>(hub, first, last, [](T a, T b) { return std::min(a, b); });
    case Reduction::max:
      return reduce_range<T>(hub, first, last, [](T a, T b) { return std::max(a, b); });
  }
}

void reduce_range(ThreadHub& hub, std::size_t first, std::size_t last, ElementType type, Reduction reduction) {
  switch (type) {
    case ElementType::int32:
      return reduce_range<std::int32_t>(hub, first, last, reduction);
    case ElementType::int64:
      return reduce_range<std::int64_t>(hub, first, last, reduction);
    case ElementType::float32:
      return reduce_range<float>(hub, first, last, reduction);
    case ElementType::float64:
      return reduce_range<double>(hub, first, last, reduction);
  }
}

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<ThreadHub> hub, int rank, std::uint64_t id)
      : hub_(std::move(hub)), rank_(rank), id_(id) {}

  int rank() const noexcept override { return rank_; }
  int size() const noexcept override { return hub_->size(); }
  std::string name() const override { return "threads"; }

  void barrier() override {
    collective({.kind = ThreadCall::Kind::barrier}, {}, [](std::uint64_t) {});
  }

  /// All ranks of a process are on one node.
  std::unique_ptr<Communicator> split_by_node() override {
    std::unique_ptr<Communicator> node;
    // The number of the meeting is a name that all ranks know and no other communicator has (0 is run_threads' own).
    collective({.kind = ThreadCall::Kind::split_by_node}, {},
               [&](std::uint64_t meeting) { node = std::make_unique<ThreadCommunicator>(hub_, rank_, meeting + 1); });
    return node;
  }

  [[noreturn]] void abort(ExitCode code) noexcept override { std::_Exit(static_cast<int>(code)); }

 protected:
  void broadcast_bytes(std::span<std::byte> data, int root) override {
    MOEX_ASSERT(root >= 0 && root < size(), fmt::format("broadcast from rank {} of {}", root, size()));
    collective({.kind = ThreadCall::Kind::broadcast, .count = data.size(), .root = root}, data, [&](std::uint64_t) {
      const std::span<std::byte> source = hub_->part(root);
      if (rank_ != root) std::copy(source.begin(), source.end(), data.begin());
    });
  }

  void all_reduce_bytes(void* data, std::size_t count, ElementType type, Reduction reduction) override {
    const ThreadCall call{.kind = ThreadCall::Kind::all_reduce, .count = count, .type = type, .reduction = reduction};
    collective(call, {static_cast<std::byte*>(data), count * bytes_of(type)}, [&](std::uint64_t) {
      const auto ranks = static_cast<std::size_t>(size());
      const auto me = static_cast<std::size_t>(rank_);
      const std::size_t share = count / ranks, rest = count % ranks;
      const std::size_t first = me * share + std::min(me, rest);
      reduce_range(*hub_, first, first + share + (me < rest ? 1 : 0), type, reduction);
    });
  }

  std::vector<std::byte> all_gather_bytes(std::span<const std::byte> mine) override {
    std::vector<std::byte> all;
    // Nobody writes to the parts of an all_gather.
    const std::span<std::byte> part(const_cast<std::byte*>(mine.data()), mine.size());
    collective({.kind = ThreadCall::Kind::all_gather}, part, [&](std::uint64_t) {
      std::size_t total = 0;
      for (int rank = 0; rank < size(); ++rank) total += hub_->part(rank).size();
      all.reserve(total);
      for (int rank = 0; rank < size(); ++rank) {
        all.insert(all.end(), hub_->part(rank).begin(), hub_->part(rank).end());
      }
    });
    return all;
  }

 private:
  /// `work` reads other ranks' parts, so this rank may not go on (and others not free theirs) before all are done with
  /// it, whether it succeeds or throws.
  template <class Work>
  void collective(ThreadCall call, std::span<std::byte> part, Work&& work) {
    call.communicator = id_;
    const std::uint64_t meeting = hub_->meet(rank_, call, part);
    std::exception_ptr error;
    try {
      work(meeting);
    } catch (...) {
      error = std::current_exception();
    }
    hub_->leave();
    if (error) std::rethrow_exception(error);
  }

  std::shared_ptr<ThreadHub> hub_;
  int rank_;
  std::uint64_t id_;
};

}  // namespace

void run_threads(int ranks, const std::function<void(Communicator&)>& body) {
  MOEX_ASSERT(ranks >= 1, fmt::format("run_threads with {} ranks", ranks));
  const auto hub = std::make_shared<ThreadHub>(ranks);
  std::vector<std::exception_ptr> errors(static_cast<std::size_t>(ranks));
  const auto run_rank = [&](int rank) {
    std::exception_ptr& error = errors[static_cast<std::size_t>(rank)];
    try {
      ThreadCommunicator communicator(hub, rank, 0);
      body(communicator);
    } catch (...) {
      error = std::current_exception();
    }
    error ? hub->rank_failed(rank, error) : hub->rank_returned(rank);
  };

  std::vector<std::thread> threads;
  threads.reserve(static_cast<std::size_t>(ranks));
  for (int rank = 0; rank < ranks; ++rank) {
    try {
      threads.emplace_back(run_rank, rank);
    } catch (...) {
      // The system gives no more threads: those that run must not wait for the ones that never will.
      errors[static_cast<std::size_t>(rank)] = std::current_exception();
      hub->rank_failed(rank, errors[static_cast<std::size_t>(rank)]);
      break;
    }
  }
  for (std::thread& thread : threads) thread.join();

  // A rank that was woken by the hub failed because of another one: its error is not the cause.
  for (int rank = 0; rank < ranks; ++rank) {
    const std::exception_ptr& error = errors[static_cast<std::size_t>(rank)];
    if (error && !hub->was_woken(rank)) std::rethrow_exception(error);
  }
}

}  // namespace moextract::comm
