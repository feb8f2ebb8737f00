// The watched communicator over ranks that are threads: what it says of a hang, and how it ends a job whose ranks do
// not know of each other's failure. A job that "ends" here releases the ranks that hang, since threads cannot be
// killed.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <mutex>
#include <random>
#include <thread>

#include "comm/backends.h"
#include "comm/watched.h"
#include "core/file.h"

namespace moextract::comm {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

/// What the ranks' watchdogs said and did.
struct Journal {
  std::mutex mutex;
  std::vector<std::string> lines;
  std::vector<ExitCode> ends;
  std::atomic<bool> ended{false};

  std::string all() {
    const std::lock_guard lock(mutex);
    std::string text;
    for (const std::string& line : lines) text += line + "\n";
    return text;
  }
  /// Blocks until the job has ended, 20 s at most.
  bool wait_for_end() {
    for (int i = 0; i < 2000 && !ended; ++i) std::this_thread::sleep_for(milliseconds(10));
    return ended;
  }
};

WatchParams quick(Journal& journal, double deadline) {
  WatchParams params;
  params.deadline = deadline;
  params.grace = 0.5;
  params.poll = 0.02;
  params.silence = 0.5;
  params.say = [&](const std::string& line) {
    const std::lock_guard lock(journal.mutex);
    journal.lines.push_back(line);
  };
  params.end = [&](ExitCode code) {
    const std::lock_guard lock(journal.mutex);
    journal.ends.push_back(code);
    journal.ended = true;
  };
  return params;
}

int count_of(const std::string& text, const std::string& part) {
  int count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(Watched, PassesCollectivesThrough) {
  Journal journal;
  const auto board = make_memory_board(3);
  run_threads(3, [&](Communicator& inner) {
    const auto comm = watch(inner, board, quick(journal, 10));
    EXPECT_EQ(comm->rank(), inner.rank());
    EXPECT_EQ(comm->size(), 3);
    EXPECT_EQ(comm->all_reduce_value<std::int64_t>(inner.rank() + 1, Reduction::sum), 6);
    EXPECT_EQ(comm->all_reduce_value<double>(inner.rank(), Reduction::max), 2.0);
    EXPECT_EQ(comm->broadcast_text(inner.rank() == 1 ? "one" : "", 1), "one");
    EXPECT_EQ(comm->all_gather_text(std::to_string(inner.rank())), (std::vector<std::string>{"0", "1", "2"}));
    const auto node = comm->split_by_node();
    EXPECT_EQ(node->size(), 3);
    EXPECT_EQ(node->all_reduce_value<std::int32_t>(1, Reduction::sum), 3);
    comm->barrier();
  });
  EXPECT_EQ(journal.all(), "");
}

TEST(Watched, AgreedErrorsReachAllRanksAsBefore) {
  Journal journal;
  const auto board = make_memory_board(3);
  std::atomic<int> seen{0};
  run_threads(3, [&](Communicator& inner) {
    const auto comm = watch(inner, board, quick(journal, 10));
    try {
      comm->guard([&] {
        comm->together([&] {
          if (inner.rank() == 2) fail(ExitCode::input, "cannot read");
        });
      });
    } catch (const RemoteFailure& error) {
      EXPECT_EQ(error.rank(), 2);
      EXPECT_EQ(error.code(), ExitCode::input);
      EXPECT_STREQ(error.what(), "rank 2: cannot read");
      ++seen;
    }
  });
  EXPECT_EQ(seen, 3);
  EXPECT_EQ(journal.all(), "");
}

TEST(Watched, AnErrorThatAllRanksThrowIsAgreedOnAtTheEndOfTheSection) {
  Journal journal;
  const auto board = make_memory_board(3);
  std::atomic<int> seen{0};
  run_threads(3, [&](Communicator& inner) {
    const auto comm = watch(inner, board, quick(journal, 10));
    for (int round = 0; round < 3; ++round) {  // sections are counted: the second is not taken for the first
      try {
        comm->guard([&] {
          comm->barrier();
          fail(ExitCode::numerics, "diverged");
        });
      } catch (const RemoteFailure& error) {
        EXPECT_EQ(error.code(), ExitCode::numerics);
        EXPECT_EQ(error.rank(), 0);
        ++seen;
      }
    }
  });
  EXPECT_EQ(seen, 9);
  EXPECT_EQ(journal.all(), "");
}

TEST(Watched, ARankThatFailsWhileOthersSucceedIsAgreedOn) {
  Journal journal;
  const auto board = make_memory_board(3);
  std::atomic<int> seen{0};
  run_threads(3, [&](Communicator& inner) {
    const auto comm = watch(inner, board, quick(journal, 10));
    try {
      comm->guard([&] {
        comm->barrier();
        if (inner.rank() == 1) fail(ExitCode::storage, "disk full");
      });
    } catch (const RemoteFailure& error) {
      EXPECT_STREQ(error.what(), "rank 1: disk full");
      ++seen;
    }
  });
  EXPECT_EQ(seen, 3);
}

TEST(Watched, ARankThatFailsWhileOthersAreInACollectiveEndsTheJobWithItsCause) {
  Journal journal;
  const auto board = make_memory_board(3);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THROW(run_threads(3,
                           [&](Communicator& inner) {
                             WatchParams params = quick(journal, 60);
                             const auto end = params.end;
                             // A process would be gone here; this thread leaves by an exception instead.
                             params.end = [&, end](ExitCode code) {
                               end(code);
                               throw UserError(code, "ended");
                             };
                             const auto comm = watch(inner, board, params);
                             comm->guard([&] {
                               if (inner.rank() == 1) fail(ExitCode::storage, "disk full");
                               comm->all_reduce_value<double>(1.0, Reduction::sum);
                               comm->barrier();
                             });
                           }),
               UserError);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  EXPECT_EQ(journal.ends, std::vector<ExitCode>{ExitCode::storage});
  EXPECT_EQ(count_of(journal.all(), "moextract: error: rank 1: disk full"), 1) << journal.all();
}

TEST(Watched, AHangNamesOperationNumberBytesAndRanks) {
  Journal journal;
  const auto board = make_memory_board(4);
  run_threads(4, [&](Communicator& inner) {
    const auto comm = watch(inner, board, quick(journal, 1.0));
    comm->barrier();
    comm->barrier();
    if (inner.rank() == 2) {
      EXPECT_TRUE(journal.wait_for_end());  // alive, but works without progress
    }
    std::vector<double> sums(5, 1.0);
    comm->all_reduce(std::span<double>(sums), Reduction::sum);
  });
  const std::string said = journal.all();
  EXPECT_NE(
      said.find("hang in all_reduce(sum of 5 float64), number 3, 40 bytes: arrived: 0, 1, 3; not arrived: 2 (works "
                "after barrier(), number 2; alive, but no progress)"),
      std::string::npos)
      << said;
  EXPECT_EQ(count_of(said, "moextract: error: hang"), 1) << said;
  for (const int rank : {0, 1, 3}) EXPECT_EQ(count_of(said, "watchdog: rank " + std::to_string(rank)), 1) << said;
  EXPECT_TRUE(
      std::all_of(journal.ends.begin(), journal.ends.end(), [](ExitCode c) { return c == ExitCode::distributed; }));
}

TEST(Watched, ASilentRankIsNamed) {
  Journal journal;
  const auto board = make_memory_board(3);
  run_threads(3, [&](Communicator& inner) {
    if (inner.rank() == 1) {  // no monitor, as if the process were stopped
      EXPECT_TRUE(journal.wait_for_end());
      inner.barrier();
      return;
    }
    const auto comm = watch(inner, board, quick(journal, 1.0));
    comm->barrier();
  });
  const std::string said = journal.all();
  EXPECT_NE(said.find("hang in barrier(), number 1, 0 bytes: arrived: 0, 2; not arrived: 1 (no sign of life"),
            std::string::npos)
      << said;
}

TEST(Watched, AHangInOtherCollectivesNamesThem) {
  Journal journal;
  const auto board = make_memory_board(2);
  run_threads(2, [&](Communicator& inner) {
    const auto comm = watch(inner, board, quick(journal, 1.0));
    comm->barrier();
    if (inner.rank() == 1) {
      EXPECT_TRUE(journal.wait_for_end());
    }
    comm->broadcast_text("x");
  });
  EXPECT_NE(journal.all().find("broadcast(8 bytes from rank 0)"), std::string::npos) << journal.all();
}

TEST(Watched, ARankThatNotesProgressIsNoHang) {
  Journal journal;
  const auto board = make_memory_board(3);
  run_threads(3, [&](Communicator& inner) {
    const auto comm = watch(inner, board, quick(journal, 0.6));
    if (inner.rank() == 1) {
      for (int i = 0; i < 60; ++i) {  // three times the deadline
        std::this_thread::sleep_for(milliseconds(30));
        note_progress();
      }
    }
    comm->barrier();
  });
  EXPECT_EQ(journal.all(), "");
  EXPECT_TRUE(journal.ends.empty());
}

TEST(Watched, DeadlineZeroWaits) {
  Journal journal;
  const auto board = make_memory_board(2);
  run_threads(2, [&](Communicator& inner) {
    const auto comm = watch(inner, board, quick(journal, 0));
    if (inner.rank() == 1) std::this_thread::sleep_for(milliseconds(800));
    comm->barrier();
  });
  EXPECT_EQ(journal.all(), "");
}

class BoardFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("moextract-board-" + std::to_string(std::random_device{}()));
  }
  void TearDown() override { fs::remove_all(folder_); }
  fs::path folder_;
};

TEST_F(BoardFolder, KeepsWhatRanksPublish) {
  create_board_folder(folder_, 2);
  const auto one = open_folder_board(folder_), two = open_folder_board(folder_);
  EXPECT_EQ(two->bell(), 0);
  EXPECT_EQ(one->ring(), 1);
  EXPECT_EQ(two->ring(), 2);
  EXPECT_EQ(one->bell(), 2);
  RankState state;
  state.answer = 2;
  state.waiting = true;
  state.communicator = 1;
  state.sequence = 77;
  state.bytes = std::int64_t{1} << 40;
  state.seconds = 1.5;
  state.progress = 9;
  state.ended_section = 3;
  state.operation = "all_reduce(sum of 5 float64)";
  one->publish(1, state);
  const auto read = two->read(1);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->answer, 2);
  EXPECT_TRUE(read->waiting);
  EXPECT_EQ(read->communicator, 1);
  EXPECT_EQ(read->sequence, 77);
  EXPECT_EQ(read->bytes, std::int64_t{1} << 40);
  EXPECT_EQ(read->seconds, 1.5);
  EXPECT_EQ(read->progress, 9);
  EXPECT_EQ(read->ended_section, 3);
  EXPECT_EQ(read->operation, state.operation);
  state.operation = "barrier()";  // shorter: nothing of the longer text may stay
  one->publish(1, state);
  EXPECT_EQ(two->read(1)->operation, "barrier()");
  EXPECT_FALSE(two->read(5));
  EXPECT_FALSE(one->has_verdict());
  EXPECT_TRUE(one->claim_verdict());
  EXPECT_FALSE(two->claim_verdict());
  EXPECT_TRUE(two->has_verdict());
}

TEST_F(BoardFolder, HalfAWriteIsNoAnswer) {
  create_board_folder(folder_, 1);
  const auto board = open_folder_board(folder_);
  write_file_atomically(folder_ / "rank-0", "5 1 0 12 ");
  EXPECT_FALSE(board->read(0));
  write_file_atomically(folder_ / "rank-0", "");
  EXPECT_FALSE(board->read(0));
  board->ring();
  write_file_atomically(folder_ / "bell", "");
  EXPECT_EQ(board->bell(), 1) << "the last number stands";
}

TEST_F(BoardFolder, AFolderThatThisRankDoesNotSeeIsTheStoresFault) {
  try {
    open_folder_board(folder_);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::storage);
    EXPECT_NE(std::string(error.what()).find("run.store"), std::string::npos);
  }
}

}  // namespace
}  // namespace moextract::comm
