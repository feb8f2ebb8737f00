// The MPI back end; the only file that sees mpi.h.
//
// Waiting: MPI libraries poll while they wait. With as many ranks as cores that is what one wants; with more ranks than
// cores it starves those that have work. That is the launcher's matter, not ours: `mpirun --oversubscribe` makes Open
// MPI yield (setting mpi_yield_when_idle), tests/mpirun.sh sets it by hand.
//
// Lengths that differ between ranks are the caller's bug. MPI reports some of them (as a truncated message) and hangs
// in others; the threads back end finds all of them, which is why the test suite runs over it too.
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <sstream>

#include "comm/backends.h"
#include "comm/pieces.h"

namespace moextract::comm {
namespace {

/// If MPI_Abort itself hangs, the process ends by SIGALRM after this time, which makes the launcher end the others.
constexpr unsigned kAbortGraceSeconds = 10;

/// Our communicators return errors instead of ending the process; this turns them into an exception with MPI's own
/// text.
void check(int status, const char* call, int rank) {
  if (status == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  if (MPI_Error_string(status, text, &length) != MPI_SUCCESS) length = 0;
  fail(ExitCode::distributed,
       "{} failed on rank {}: {}. If no other rank reports an error before this one, a rank or the network between two "
       "hosts was lost: look into the launcher's output, then run the same command again.",
       call, rank, length > 0 ? std::string(text, static_cast<std::size_t>(length)) : fmt::format("error {}", status));
}

bool is_finalized() noexcept {
  int finalized = 0;
  MPI_Finalized(&finalized);
  return finalized != 0;
}

MPI_Datatype mpi_type(ElementType type) {
  switch (type) {
    case ElementType::int32:
      return MPI_INT32_T;
    case ElementType::int64:
      return MPI_INT64_T;
    case ElementType::float32:
      return MPI_FLOAT;
    case ElementType::float64:
      return MPI_DOUBLE;
  }
  return MPI_DATATYPE_NULL;
}

MPI_Op mpi_operation(Reduction reduction) {
  switch (reduction) {
    case Reduction::sum:
      return MPI_SUM;
    case Reduction::min:
      return MPI_MIN;
    case Reduction::max:
      return MPI_MAX;
  }
  return MPI_OP_NULL;
}

class MpiCommunicator final : public Communicator {
 public:
  /// Takes over `comm`.
  explicit MpiCommunicator(MPI_Comm comm) : comm_(comm) {
    MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
    MPI_Comm_rank(comm_, &rank_);
    MPI_Comm_size(comm_, &size_);
  }

  /// MPI_Comm_free is collective by the standard. Open MPI and MPICH do not communicate in it, but a rank that unwinds
  /// does not even try: the others are not coming.
  ~MpiCommunicator() override {
    if (is_finalized() || std::uncaught_exceptions() > 0) return;
    MPI_Comm_free(&comm_);
  }

  int rank() const noexcept override { return rank_; }
  int size() const noexcept override { return size_; }
  std::string name() const override { return "mpi"; }

  void barrier() override {
    check_thread();
    check(MPI_Barrier(comm_), "MPI_Barrier", rank_);
  }

  std::unique_ptr<Communicator> split_by_node() override {
    check_thread();
    MPI_Comm node = MPI_COMM_NULL;
    check(MPI_Comm_split_type(comm_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &node), "MPI_Comm_split_type", rank_);
    return std::make_unique<MpiCommunicator>(node);
  }

  /// May be called from a thread that watches over one blocked in a collective. Buffered output is not flushed: the
  /// lock of a stream may be held by the very thread that hangs.
  [[noreturn]] void abort(ExitCode code) noexcept override {
    if (!is_finalized()) {
      std::signal(SIGALRM, SIG_DFL);
      alarm(kAbortGraceSeconds);
      // The world, not comm_: the ranks of a node must not end alone.
      MPI_Abort(MPI_COMM_WORLD, static_cast<int>(code));
    }
    std::_Exit(static_cast<int>(code));
  }

 protected:
  void broadcast_bytes(std::span<std::byte> data, int root) override {
    MOEX_ASSERT(root >= 0 && root < size_, fmt::format("broadcast from rank {} of {}", root, size_));
    check_thread();
    const std::size_t piece = piece_length(piece_sizes().mpi_bytes, 1);
    for (std::size_t first = 0; first < data.size(); first += piece) {
      const std::size_t count = std::min(piece, data.size() - first);
      check(MPI_Bcast(data.data() + first, static_cast<int>(count), MPI_BYTE, root, comm_), "MPI_Bcast", rank_);
    }
  }

  void all_reduce_bytes(void* data, std::size_t count, ElementType type, Reduction reduction) override {
    check_thread();
    const std::size_t piece = piece_length(piece_sizes().mpi_bytes, bytes_of(type));
    for (std::size_t first = 0; first < count; first += piece) {
      const std::size_t length = std::min(piece, count - first);
      check(MPI_Allreduce(MPI_IN_PLACE, static_cast<std::byte*>(data) + first * bytes_of(type),
                          static_cast<int>(length), mpi_type(type), mpi_operation(reduction), comm_),
            "MPI_Allreduce", rank_);
    }
  }

  std::vector<std::byte> all_gather_bytes(std::span<const std::byte> mine) override {
    check_thread();
    const auto ranks = static_cast<std::size_t>(size_);
    const auto length = static_cast<std::uint64_t>(mine.size());
    std::vector<std::uint64_t> lengths(ranks);
    check(MPI_Allgather(&length, 1, MPI_UINT64_T, lengths.data(), 1, MPI_UINT64_T, comm_), "MPI_Allgather", rank_);
    std::vector<std::size_t> starts(ranks + 1, 0);
    for (std::size_t r = 0; r < ranks; ++r) starts[r + 1] = starts[r] + static_cast<std::size_t>(lengths[r]);
    std::vector<std::byte> all(starts[ranks]);

    // All ranks know all lengths, so all take the same way.
    if (all.size() > piece_sizes().mpi_bytes) {
      // Displacements are `int` as well, so one call cannot reach the far end: each rank in turn broadcasts its part.
      std::copy(mine.begin(), mine.end(),
                all.begin() + static_cast<std::ptrdiff_t>(starts[static_cast<std::size_t>(rank_)]));
      for (std::size_t r = 0; r < ranks; ++r) {
        broadcast_bytes(std::span(all).subspan(starts[r], starts[r + 1] - starts[r]), static_cast<int>(r));
      }
    } else if (!all.empty()) {
      const std::vector<int> counts(lengths.begin(), lengths.end());
      const std::vector<int> displacements(starts.begin(), starts.end() - 1);
      check(MPI_Allgatherv(mine.data(), static_cast<int>(mine.size()), MPI_BYTE, all.data(), counts.data(),
                           displacements.data(), MPI_BYTE, comm_),
            "MPI_Allgatherv", rank_);
    }
    return all;
  }

 private:
  /// MPI was started for calls from the main thread alone.
  void check_thread() const {
    int level = MPI_THREAD_SINGLE, is_main = 0;
    MPI_Query_thread(&level);
    MPI_Is_thread_main(&is_main);
    MOEX_ASSERT(is_main != 0 || level == MPI_THREAD_MULTIPLE,
                "a collective of the mpi back end is called by a thread that is not the main thread");
  }

  MPI_Comm comm_;
  int rank_ = 0;
  int size_ = 1;
};

}  // namespace

MpiSession::MpiSession(int& argc, char**& argv) {
  int started = 0;
  MPI_Initialized(&started);
  MOEX_ASSERT(started == 0, "a process starts MPI once");
  int level = MPI_THREAD_SINGLE;
  const int status = MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
  if (status != MPI_SUCCESS) {
    fail(ExitCode::distributed, "MPI_Init_thread failed with error {} ({}): start with the mpirun of this MPI library.",
         status, version());
  }
  if (level < MPI_THREAD_FUNNELED) {
    MPI_Finalize();
    fail(ExitCode::distributed,
         "this MPI library ({}) does not allow threads beside the one that calls it (MPI_THREAD_FUNNELED): use a build "
         "of it with thread support.",
         version());
  }
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
}

MpiSession::~MpiSession() {
  if (is_finalized() || std::uncaught_exceptions() > 0) return;
  MPI_Finalize();
}

std::unique_ptr<Communicator> MpiSession::world() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm copy = MPI_COMM_NULL;
  check(MPI_Comm_dup(MPI_COMM_WORLD, &copy), "MPI_Comm_dup", rank);
  return std::make_unique<MpiCommunicator>(copy);
}

std::string MpiSession::version() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  MPI_Get_library_version(text, &length);
  // MPICH answers with a page and with tabs; its first line is the version.
  const std::string all(text);
  std::istringstream words(all.substr(0, all.find('\n')));
  std::string line;
  for (std::string word; words >> word;) line += (line.empty() ? "" : " ") + word;
  return line;
}

}  // namespace moextract::comm
