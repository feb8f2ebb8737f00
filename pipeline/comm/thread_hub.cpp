// The rendezvous of the threads back end.
#include "comm/thread_hub.h"

namespace moextract::comm {
namespace {

const char* name_of(Reduction reduction) {
  switch (reduction) {
    case Reduction::sum:
      return "sum";
    case Reduction::min:
      return "min";
    case Reduction::max:
      return "max";
  }
  return "?";
}

const char* name_of(ElementType type) {
  switch (type) {
    case ElementType::int32:
      return "int32";
    case ElementType::int64:
      return "int64";
    case ElementType::float32:
      return "float32";
    case ElementType::float64:
      return "float64";
  }
  return "?";
}

}  // namespace

std::string ThreadCall::text() const {
  const std::string where = communicator == 0 ? "" : fmt::format(" on communicator {}", communicator);
  switch (kind) {
    case Kind::barrier:
      return "barrier()" + where;
    case Kind::broadcast:
      return fmt::format("broadcast({} bytes from rank {})", count, root) + where;
    case Kind::all_reduce:
      return fmt::format("all_reduce({} of {} {})", name_of(reduction), count, name_of(type)) + where;
    case Kind::all_gather:
      return "all_gather()" + where;
    case Kind::split_by_node:
      return "split_by_node()" + where;
  }
  return "?";
}

ThreadHub::ThreadHub(int ranks)
    : size_(ranks),
      calls_(static_cast<std::size_t>(ranks)),
      parts_(static_cast<std::size_t>(ranks)),
      woken_(static_cast<std::size_t>(ranks), 0) {}

std::uint64_t ThreadHub::meet(int rank, const ThreadCall& call, std::span<std::byte> part) {
  std::unique_lock lock(mutex_);
  if (failure_ || returned_) throw_broken(rank, call);
  calls_[static_cast<std::size_t>(rank)] = call;
  parts_[static_cast<std::size_t>(rank)] = part;
  const std::uint64_t meeting = meetings_;
  if (++arrived_ == size_) {
    mismatch_ = difference();
    arrived_ = 0;
    ++meetings_;
    changed_.notify_all();
  } else {
    changed_.wait(lock, [&] { return meetings_ != meeting || failure_ || returned_; });
    // The count decides, not the failure: a meeting that took place took place for all, even if a rank failed right
    // after.
    if (meetings_ == meeting) throw_broken(rank, call);
  }
  // No later meeting can overwrite the text before all have read it, for it would need all ranks.
  if (!mismatch_.empty()) throw BugError(mismatch_);
  return meeting;
}

void ThreadHub::leave() {
  std::unique_lock lock(mutex_);
  const std::uint64_t departure = departures_;
  if (++leaving_ == size_) {
    leaving_ = 0;
    ++departures_;
    changed_.notify_all();
  } else {
    changed_.wait(lock, [&] { return departures_ != departure; });
  }
}

void ThreadHub::rank_failed(int rank, const std::exception_ptr& error) {
  const std::lock_guard lock(mutex_);
  if (!failure_ && !woken_[static_cast<std::size_t>(rank)]) failure_ = describe_failure(error, rank);
  changed_.notify_all();
}

void ThreadHub::rank_returned(int rank) {
  const std::lock_guard lock(mutex_);
  // After a failure ranks return as they like.
  if (!returned_ && !failure_) returned_ = rank;
  changed_.notify_all();
}

bool ThreadHub::was_woken(int rank) const {
  const std::lock_guard lock(mutex_);
  return woken_[static_cast<std::size_t>(rank)] != 0;
}

void ThreadHub::throw_broken(int rank, const ThreadCall& call) {
  // Whatever came first is the cause. Every rank that calls after another one's return has made the mistake itself.
  if (returned_) {
    throw BugError(fmt::format("rank {} has returned, but rank {} calls {}. This is a bug in moextract.", *returned_,
                               rank, call.text()));
  }
  woken_[static_cast<std::size_t>(rank)] = 1;
  throw RemoteFailure(failure_->code, failure_->rank, failure_->message);
}

std::string ThreadHub::difference() const {
  for (std::size_t rank = 1; rank < calls_.size(); ++rank) {
    if (calls_[rank] == calls_[0]) continue;
    return fmt::format(
        "ranks must make the same call, but rank 0 calls {} and rank {} calls {}. This is a bug in moextract.",
        calls_[0].text(), rank, calls_[rank].text());
  }
  return {};
}

}  // namespace moextract::comm
