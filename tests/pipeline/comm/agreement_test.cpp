// agree() and together(): a failure on any rank is the same exception on all of them.
#include <gtest/gtest.h>

#include <new>

#include "tests/pipeline/comm/backend.h"

namespace moextract::comm {
namespace {

template <class E>
std::exception_ptr made(E error) {
  return std::make_exception_ptr(std::move(error));
}

/// Agrees on `mine`; the RemoteFailure that is thrown, which it is on every rank.
RemoteFailure agreed_failure(Communicator& ranks, const std::exception_ptr& mine) {
  try {
    ranks.agree(mine);
  } catch (const RemoteFailure& failure) {
    return failure;
  } catch (...) {
    ADD_FAILURE() << "threw something else than RemoteFailure";
  }
  return {ExitCode::ok, -1, "nothing was thrown"};
}

TEST(Agree, OnNothingWrong) {
  on_every_backend([](Communicator& ranks) {
    EXPECT_NO_THROW(ranks.agree(nullptr));
    int calls = 0;
    EXPECT_NO_THROW(ranks.together([&] { ++calls; }));
    EXPECT_EQ(calls, 1);
  });
}

TEST(Agree, OnAFailureOfAnyRank) {
  on_every_backend([](Communicator& ranks) {
    if (ranks.size() == 1) return;
    for (int bad = 0; bad < ranks.size(); ++bad) {
      const RemoteFailure failure = agreed_failure(
          ranks, ranks.rank() == bad ? made(UserError(ExitCode::storage, "disk full: free 3 GiB")) : nullptr);
      EXPECT_EQ(failure.code(), ExitCode::storage);
      EXPECT_EQ(failure.rank(), bad);
      EXPECT_EQ(failure.what(), fmt::format("rank {}: disk full: free 3 GiB", bad));
    }
    // And all can go on.
    EXPECT_EQ(ranks.all_reduce_value(std::int32_t{1}, Reduction::sum), ranks.size());
  });
}

TEST(Agree, OnTheLowestOfSeveralFailures) {
  on_every_backend([](Communicator& ranks) {
    if (ranks.size() < 3) return;
    const RemoteFailure failure = agreed_failure(
        ranks, ranks.rank() >= 1
                   ? made(UserError(static_cast<ExitCode>(ranks.rank() + 2), fmt::format("error {}", ranks.rank())))
                   : nullptr);
    EXPECT_EQ(failure.rank(), 1);
    EXPECT_EQ(failure.code(), ExitCode::config);
    EXPECT_STREQ(failure.what(), "rank 1: error 1");
  });
}

TEST(Agree, GivesEveryKindOfErrorItsExitCode) {
  on_every_backend([](Communicator& ranks) {
    if (ranks.size() == 1) return;
    const int bad = ranks.size() - 1;
    const auto meets = [&](const std::exception_ptr& error) {
      return agreed_failure(ranks, ranks.rank() == bad ? error : nullptr);
    };
    const std::string rank = fmt::format("rank {}: ", bad);
    RemoteFailure failure = meets(made(BugError("assertion 'x' failed")));
    EXPECT_EQ(failure.code(), ExitCode::bug);
    EXPECT_EQ(failure.what(), rank + "assertion 'x' failed");
    failure = meets(made(std::runtime_error("a library says no")));
    EXPECT_EQ(failure.code(), ExitCode::other);
    EXPECT_EQ(failure.what(), rank + "a library says no");
    failure = meets(made(std::bad_alloc()));
    EXPECT_EQ(failure.code(), ExitCode::other);
    EXPECT_EQ(failure.what(), rank + "out of host memory");
    failure = meets(made(42));
    EXPECT_EQ(failure.code(), ExitCode::other);
    EXPECT_EQ(failure.what(), rank + "an exception of unknown type");
    failure = meets(made(UserError(ExitCode::input, std::string(20000, 'y'))));
    EXPECT_EQ(failure.what(), rank + std::string(20000, 'y'));
    failure = meets(made(UserError(ExitCode::input, "")));
    EXPECT_EQ(failure.what(), rank);
  });
}

TEST(Agree, HandsARemoteFailureOnUnchanged) {
  on_every_backend([](Communicator& ranks) {
    if (ranks.size() == 1) return;
    const int bad = ranks.size() - 1;
    try {
      ranks.together([&] {
        ranks.together([&] {
          if (ranks.rank() == bad) fail(ExitCode::numerics, "NaN in layer {}", 3);
        });
      });
      ADD_FAILURE() << "nothing was thrown";
    } catch (const RemoteFailure& failure) {
      EXPECT_EQ(failure.rank(), bad);
      EXPECT_EQ(failure.code(), ExitCode::numerics);
      EXPECT_EQ(failure.what(), fmt::format("rank {}: NaN in layer 3", bad));
    }
  });
}

TEST(Agree, AloneThrowsTheErrorItself) {
  on_every_backend([](Communicator& ranks) {
    if (ranks.size() > 1) return;
    EXPECT_THROW(ranks.agree(made(std::out_of_range("as it was"))), std::out_of_range);
    try {
      ranks.together([] { fail(ExitCode::model, "no such layer"); });
      ADD_FAILURE() << "nothing was thrown";
    } catch (const RemoteFailure&) {
      ADD_FAILURE() << "a rank alone has no remote";
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::model);
      EXPECT_STREQ(error.what(), "no such layer");
    }
  });
}

TEST(OrderedSum, LengthsThatDifferAreABugOnAllRanks) {
  on_every_backend([](Communicator& ranks) {
    if (ranks.size() == 1) return;
    const bool last = ranks.rank() == ranks.size() - 1;
    std::vector<double> data(last ? 6 : 5);
    try {
      ranks.all_reduce_ordered(std::span<double>(data));
      ADD_FAILURE() << "nothing was thrown";
    } catch (const BugError& error) {
      const std::string expected = fmt::format("rank 0 passes 5 elements, rank {} passes 6", ranks.size() - 1);
      EXPECT_NE(std::string(error.what()).find(expected), std::string::npos) << error.what();
    }
  });
}

}  // namespace
}  // namespace moextract::comm
