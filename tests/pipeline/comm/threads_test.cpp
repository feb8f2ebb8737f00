// What only the threads back end promises: it finds out calls that do not match, and no rank waits for one that is
// gone.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <thread>

#include "comm/backends.h"

namespace moextract::comm {
namespace {

/// The text of the exception of type E that run_threads throws.
template <class E>
std::string thrown_by(int ranks, const std::function<void(Communicator&)>& body) {
  try {
    run_threads(ranks, body);
  } catch (const E& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another type of exception: " << error.what();
    return {};
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in '" << text << "'";
}

std::vector<std::function<void(Communicator&)>> all_collectives() {
  return {
      [](Communicator& ranks) { ranks.barrier(); },
      [](Communicator& ranks) {
        double value = 1;
        ranks.broadcast(std::span<double>(&value, 1));
      },
      [](Communicator& ranks) { ranks.all_reduce_value(1.0, Reduction::sum); },
      [](Communicator& ranks) { ranks.all_gather(std::span<const char>("abc", 3)); },
      [](Communicator& ranks) { ranks.split_by_node(); },
      [](Communicator& ranks) { ranks.agree(nullptr); },
  };
}

TEST(ThreadRanks, RunTheBodyOncePerRank) {
  std::array<std::atomic<int>, 7> calls{};
  run_threads(7, [&](Communicator& ranks) { ++calls[static_cast<std::size_t>(ranks.rank())]; });
  for (const auto& count : calls) EXPECT_EQ(count, 1);
  EXPECT_THROW(run_threads(0, [](Communicator&) {}), BugError);
}

TEST(ThreadRanks, MeetManyTimesWithoutMixingRounds) {
  run_threads(4, [](Communicator& ranks) {
    for (std::int64_t round = 0; round < 3000; ++round) {
      ASSERT_EQ(ranks.all_reduce_value(round + ranks.rank(), Reduction::sum), 4 * round + 6);
    }
  });
}

TEST(ThreadRanks, BarrierHoldsUntilAllHaveCome) {
  std::atomic<int> come{0};
  run_threads(4, [&](Communicator& ranks) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20 * ranks.rank()));
    ++come;
    ranks.barrier();
    EXPECT_EQ(come, 4);
  });
}

TEST(ThreadFailure, WakesThoseWhoWaitInAnyCollective) {
  for (const auto& collective : all_collectives()) {
    for (int bad = 0; bad < 4; ++bad) {
      std::atomic<int> woken{0};
      const std::string text = thrown_by<UserError>(4, [&](Communicator& ranks) {
        ranks.barrier();
        if (ranks.rank() == bad) {
          std::this_thread::sleep_for(std::chrono::milliseconds(5));
          fail(ExitCode::input, "shard 7 is cut short");
        }
        try {
          collective(ranks);
          ADD_FAILURE() << "the collective ended without rank " << bad;
        } catch (const RemoteFailure& failure) {
          EXPECT_EQ(failure.rank(), bad);
          EXPECT_EQ(failure.code(), ExitCode::input);
          EXPECT_EQ(failure.what(), fmt::format("rank {}: shard 7 is cut short", bad));
          ++woken;
          throw;
        }
      });
      EXPECT_EQ(woken, 3);
      // The failing rank's own exception, not what it became on the others.
      EXPECT_EQ(text, "shard 7 is cut short");
    }
  }
}

TEST(ThreadFailure, IsSeenByThoseWhoComeLate) {
  const std::string text = thrown_by<std::out_of_range>(3, [](Communicator& ranks) {
    if (ranks.rank() == 2) throw std::out_of_range("own type");
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    for (int attempt = 0; attempt < 3; ++attempt) EXPECT_THROW(ranks.barrier(), RemoteFailure);
  });
  EXPECT_EQ(text, "own type");
}

TEST(ThreadFailure, TheLowestFailingRankIsReported) {
  // Rank 2 fails first, rank 1 later and by itself; rank 0 is woken and is no cause, whatever it throws then.
  const std::string text = thrown_by<UserError>(3, [](Communicator& ranks) {
    if (ranks.rank() == 2) fail(ExitCode::input, "error of 2");
    if (ranks.rank() == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      fail(ExitCode::input, "error of 1");
    }
    try {
      ranks.barrier();
    } catch (const RemoteFailure&) {
      throw std::runtime_error("a consequence");
    }
  });
  EXPECT_EQ(text, "error of 1");
}

TEST(ThreadFailure, AfterACollectiveDoesNotUndoIt) {
  // A fast rank may fail before the slow ones have woken from the collective that all had reached.
  for (int round = 0; round < 200; ++round) {
    std::atomic<int> passed{0};
    EXPECT_THROW(run_threads(4,
                             [&](Communicator& ranks) {
                               ranks.all_reduce_value(1.0, Reduction::sum);
                               ++passed;
                               if (ranks.rank() == round % 4) throw std::runtime_error("right after");
                             }),
                 std::runtime_error);
    ASSERT_EQ(passed, 4);
  }
}

TEST(ThreadFailure, AnAgreedOneIsRethrownAsSuch) {
  const std::string text = thrown_by<RemoteFailure>(3, [](Communicator& ranks) {
    ranks.together([&] {
      if (ranks.rank() == 1) fail(ExitCode::storage, "disk full");
    });
  });
  EXPECT_EQ(text, "rank 1: disk full");
}

TEST(ThreadMismatch, NamesBothCalls) {
  const std::string text = thrown_by<BugError>(3, [](Communicator& ranks) {
    if (ranks.rank() == 1) {
      ranks.all_reduce_value(1.0, Reduction::max);
    } else {
      ranks.barrier();
    }
  });
  expect_contains(text, "rank 0 calls barrier()");
  expect_contains(text, "rank 1 calls all_reduce(max of 1 float64)");
}

TEST(ThreadMismatch, OfLengthTypeReductionOrRoot) {
  const auto reduce = [](auto one, std::size_t length, Reduction reduction) {
    return [=](Communicator& ranks) {
      std::vector<decltype(one)> data(length, one);
      ranks.all_reduce(std::span<decltype(one)>(data), reduction);
    };
  };
  const auto broadcast = [](std::size_t length, int root) {
    return [=](Communicator& ranks) {
      std::vector<char> data(length);
      ranks.broadcast(std::span<char>(data), root);
    };
  };
  struct Case {
    std::function<void(Communicator&)> first, second;
    std::string first_text, second_text;
  };
  const std::vector<Case> cases = {
      {reduce(1.0, 5, Reduction::sum), reduce(1.0, 6, Reduction::sum), "all_reduce(sum of 5 float64)",
       "all_reduce(sum of 6 float64)"},
      {reduce(1.0, 5, Reduction::sum), reduce(1.0, 0, Reduction::sum), "sum of 5", "sum of 0"},
      {reduce(1.0f, 5, Reduction::sum), reduce(std::int32_t{1}, 5, Reduction::sum), "5 float32", "5 int32"},
      {reduce(1.0, 5, Reduction::min), reduce(std::int64_t{1}, 5, Reduction::min), "5 float64", "5 int64"},
      {reduce(1.0, 5, Reduction::min), reduce(1.0, 5, Reduction::max), "min of 5", "max of 5"},
      {broadcast(3, 0), broadcast(4, 0), "broadcast(3 bytes from rank 0)", "broadcast(4 bytes from rank 0)"},
      {broadcast(3, 0), broadcast(3, 1), "broadcast(3 bytes from rank 0)", "broadcast(3 bytes from rank 1)"},
  };
  for (const Case& each : cases) {
    std::atomic<int> bugs{0};
    const std::string text = thrown_by<BugError>(4, [&](Communicator& ranks) {
      try {
        ranks.rank() == 3 ? each.second(ranks) : each.first(ranks);
      } catch (const BugError&) {
        ++bugs;
        throw;
      }
    });
    EXPECT_EQ(bugs, 4) << "all ranks learn of it";
    expect_contains(text, "rank 0 calls ");
    expect_contains(text, each.first_text);
    expect_contains(text, "rank 3 calls ");
    expect_contains(text, each.second_text);
  }
}

TEST(ThreadMismatch, OfCommunicators) {
  const std::string text = thrown_by<BugError>(2, [](Communicator& ranks) {
    const std::unique_ptr<Communicator> node = ranks.split_by_node();
    ranks.rank() == 0 ? ranks.barrier() : node->barrier();
  });
  expect_contains(text, "rank 0 calls barrier() and rank 1 calls barrier() on communicator");
}

TEST(ThreadMismatch, ARankThatReturnedIsNotWaitedFor) {
  for (const int delay : {0, 20}) {  // it has returned before or while the others wait
    const std::string text = thrown_by<BugError>(3, [&](Communicator& ranks) {
      if (ranks.rank() == 1) {
        std::this_thread::sleep_for(std::chrono::milliseconds(delay));
        return;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20 - delay));
      ranks.barrier();
    });
    expect_contains(text, "rank 1 has returned, but rank 0 calls barrier()");
  }
}

}  // namespace
}  // namespace moextract::comm
