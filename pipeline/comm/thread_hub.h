// Where the ranks of the threads back end meet: a rendezvous that checks that all make the same call and that wakes
// those who wait for a rank that is not coming.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/failure.h"

namespace moextract::comm {

/// What must be equal on all ranks.
struct ThreadCall {
  enum class Kind { barrier, broadcast, all_reduce, all_gather, split_by_node };

  Kind kind;
  std::uint64_t communicator = 0;  ///< which one of the communicators that share the hub
  std::size_t count = 0;           ///< bytes of a broadcast, elements of an all_reduce
  int root = 0;
  ElementType type = ElementType::int32;
  Reduction reduction = Reduction::sum;

  bool operator==(const ThreadCall&) const = default;
  /// "all_reduce(sum of 5 float64)"
  std::string text() const;
};

/// One hub serves all communicators of a run_threads() call. A rank is one thread, so ranks that use two communicators
/// in different order are found out here, where MPI would hang.
///
/// A collective is meet(), work on the parts of all ranks, leave(). Meetings are counted; a waiting rank knows by the
/// count that its meeting took place, whatever has happened since.
class ThreadHub {
 public:
  explicit ThreadHub(int ranks);

  int size() const noexcept { return size_; }

  /// Blocks until all ranks have come with the same call; the number of the meeting, the same on all ranks. `part` is
  /// this rank's buffer, to be left alone by its owner until leave() has returned.
  /// Throws RemoteFailure if a rank failed, BugError if the calls differ or a rank has returned from its body.
  std::uint64_t meet(int rank, const ThreadCall& call, std::span<std::byte> part);
  /// The buffer that `rank` brought. Between meet() and leave() only.
  std::span<std::byte> part(int rank) const { return parts_[static_cast<std::size_t>(rank)]; }
  /// Blocks until all ranks are done with each other's parts. After a meeting every rank comes here, even if its work
  /// failed, so the wait is short and needs no waking.
  void leave();

  /// The rank's body threw `error`. Wakes all who wait.
  void rank_failed(int rank, const std::exception_ptr& error);
  /// The rank's body returned. Wakes all who wait: they wait for a call that is not coming.
  void rank_returned(int rank);
  /// Whether meet() told this rank of another one's failure, so that its own exception is a consequence.
  bool was_woken(int rank) const;

 private:
  [[noreturn]] void throw_broken(int rank, const ThreadCall& call);
  std::string difference() const;

  const int size_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<ThreadCall> calls_;
  std::vector<std::span<std::byte>> parts_;
  int arrived_ = 0;
  std::uint64_t meetings_ = 0;
  std::string mismatch_;  ///< of the last meeting; empty if all was well
  int leaving_ = 0;
  std::uint64_t departures_ = 0;
  std::optional<Failure> failure_;  ///< the first in time
  std::optional<int> returned_;     ///< the first rank that returned, unless one had failed before
  std::vector<char> woken_;
};

}  // namespace moextract::comm
