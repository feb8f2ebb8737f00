// Every collective of every back end against a serial computation over the data of all ranks. The data of a rank is a
// function of rank and index, so each rank can compute what the others have.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>

#include "comm/backends.h"
#include "tests/pipeline/comm/backend.h"

namespace moextract::comm {
namespace {

/// 0, 1, odd, a whole tiny piece of doubles and of floats, more than that, and a long one.
constexpr std::size_t kLengths[] = {0, 1, 7, 8, 16, 101, 10007};

/// Small whole numbers of both signs: their sums are exact in every type and order.
template <class T>
std::vector<T> whole_numbers(int rank, std::size_t length) {
  std::vector<T> values(length);
  for (std::size_t i = 0; i < length; ++i) {
    values[i] = static_cast<T>(
        static_cast<std::int64_t>((i * 2654435761u + static_cast<std::size_t>(rank) * 40503u) % 2001) - 1000);
  }
  return values;
}

/// Numbers of very different size, so that a sum in another order has other bits.
template <class T>
std::vector<T> rough_numbers(int rank, std::size_t length) {
  std::mt19937_64 random(static_cast<std::uint64_t>(rank) * 1000003 + length);
  std::vector<T> values(length);
  for (T& value : values) {
    const double mantissa = static_cast<double>(random() >> 11) * 0x1p-53 - 0.5;
    value = static_cast<T>(std::ldexp(mantissa, static_cast<int>(random() % 40) - 20));
  }
  return values;
}

template <class T>
class Collectives : public testing::Test {};
using ElementTypes = testing::Types<std::int32_t, std::int64_t, float, double>;
TYPED_TEST_SUITE(Collectives, ElementTypes);

TYPED_TEST(Collectives, BroadcastFromEveryRank) {
  using T = TypeParam;
  on_every_backend([](Communicator& ranks) {
    for (int root = 0; root < ranks.size(); ++root) {
      for (const std::size_t length : kLengths) {
        std::vector<T> data = whole_numbers<T>(ranks.rank(), length);
        ranks.broadcast(std::span<T>(data), root);
        EXPECT_EQ(data, whole_numbers<T>(root, length)) << "root " << root << ", length " << length;
      }
    }
  });
}

TYPED_TEST(Collectives, AllReduceOfWholeNumbersIsExact) {
  using T = TypeParam;
  on_every_backend([](Communicator& ranks) {
    for (const std::size_t length : kLengths) {
      std::vector<T> sum = whole_numbers<T>(0, length), min = sum, max = sum;
      for (int rank = 1; rank < ranks.size(); ++rank) {
        const std::vector<T> part = whole_numbers<T>(rank, length);
        for (std::size_t i = 0; i < length; ++i) {
          sum[i] += part[i];
          min[i] = std::min(min[i], part[i]);
          max[i] = std::max(max[i], part[i]);
        }
      }
      const auto reduced = [&](Reduction reduction) {
        std::vector<T> data = whole_numbers<T>(ranks.rank(), length);
        ranks.all_reduce(std::span<T>(data), reduction);
        return data;
      };
      EXPECT_EQ(reduced(Reduction::sum), sum) << "length " << length;
      EXPECT_EQ(reduced(Reduction::min), min) << "length " << length;
      EXPECT_EQ(reduced(Reduction::max), max) << "length " << length;
    }
  });
}

TYPED_TEST(Collectives, AllReduceReachesTheEndsOfTheType) {
  using T = TypeParam;
  on_every_backend([](Communicator& ranks) {
    const bool last = ranks.rank() == ranks.size() - 1;
    const T lowest = std::numeric_limits<T>::lowest(), highest = std::numeric_limits<T>::max();
    EXPECT_EQ(ranks.all_reduce_value(last ? lowest : T{1}, Reduction::min), lowest);
    EXPECT_EQ(ranks.all_reduce_value(last ? highest : T{1}, Reduction::max), highest);
    EXPECT_EQ(ranks.all_reduce_value(last ? highest : T{0}, Reduction::sum), highest);
  });
}

TYPED_TEST(Collectives, AllReduceOfOneValue) {
  using T = TypeParam;
  on_every_backend([](Communicator& ranks) {
    const int size = ranks.size();
    const T mine = static_cast<T>(ranks.rank() + 1);
    EXPECT_EQ(ranks.all_reduce_value(mine, Reduction::sum), static_cast<T>(size * (size + 1) / 2));
    EXPECT_EQ(ranks.all_reduce_value(mine, Reduction::min), T{1});
    EXPECT_EQ(ranks.all_reduce_value(mine, Reduction::max), static_cast<T>(size));
  });
}

TYPED_TEST(Collectives, AllGatherOfUnequalPartsEqualsSelfOnTheConcatenation) {
  using T = TypeParam;
  // Ways to share out: equal, growing from an empty one, all on the last rank, every other one empty, all empty.
  const std::vector<std::function<std::size_t(int, int)>> shares = {
      [](int, int) { return 13; },
      [](int rank, int) { return rank * 7; },
      [](int rank, int size) { return rank == size - 1 ? 1001 : 0; },
      [](int rank, int) { return rank % 2 == 0 ? 0 : 50 + rank; },
      [](int, int) { return 0; },
  };
  on_every_backend([&](Communicator& ranks) {
    for (std::size_t way = 0; way < shares.size(); ++way) {
      std::vector<T> concatenation;
      for (int rank = 0; rank < ranks.size(); ++rank) {
        const std::vector<T> part = whole_numbers<T>(rank, shares[way](rank, ranks.size()));
        concatenation.insert(concatenation.end(), part.begin(), part.end());
      }
      const std::vector<T> mine = whole_numbers<T>(ranks.rank(), shares[way](ranks.rank(), ranks.size()));
      const std::vector<T> expected = make_self()->all_gather(std::span<const T>(concatenation));
      ASSERT_EQ(expected, concatenation);
      EXPECT_EQ(ranks.all_gather(std::span<const T>(mine)), expected) << "way " << way;
    }
  });
}

template <class T>
class FloatingCollectives : public testing::Test {};
using FloatingTypes = testing::Types<float, double>;
TYPED_TEST_SUITE(FloatingCollectives, FloatingTypes);

template <class T>
using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;

template <class T>
std::vector<Bits<T>> bits_of(const std::vector<T>& values) {
  std::vector<Bits<T>> bits(values.size());
  std::transform(values.begin(), values.end(), bits.begin(), [](T value) { return std::bit_cast<Bits<T>>(value); });
  return bits;
}

TYPED_TEST(FloatingCollectives, OrderedSumHasTheBitsOfASerialLoop) {
  using T = TypeParam;
  on_every_backend([](Communicator& ranks) {
    for (const std::size_t length : kLengths) {
      std::vector<T> expected = rough_numbers<T>(0, length);
      for (int rank = 1; rank < ranks.size(); ++rank) {
        const std::vector<T> part = rough_numbers<T>(rank, length);
        for (std::size_t i = 0; i < length; ++i) expected[i] += part[i];
      }
      std::vector<T> data = rough_numbers<T>(ranks.rank(), length);
      ranks.all_reduce_ordered(std::span<T>(data));
      EXPECT_EQ(bits_of(data), bits_of(expected)) << "length " << length;

      if (ranks.size() < 3 || length < 1000) continue;
      // The data is such that the order shows: else the comparison above proves nothing.
      std::vector<T> backwards = rough_numbers<T>(ranks.size() - 1, length);
      for (int rank = ranks.size() - 2; rank >= 0; --rank) {
        const std::vector<T> part = rough_numbers<T>(rank, length);
        for (std::size_t i = 0; i < length; ++i) backwards[i] += part[i];
      }
      EXPECT_NE(bits_of(backwards), bits_of(expected));
    }
  });
}

TYPED_TEST(FloatingCollectives, OrderedSumKeepsNegativeZero) {
  using T = TypeParam;
  on_every_backend([](Communicator& ranks) {
    std::vector<T> data(3, T{-0.0});
    ranks.all_reduce_ordered(std::span<T>(data));
    for (const T value : data) EXPECT_TRUE(std::signbit(value));
  });
}

TYPED_TEST(FloatingCollectives, UnorderedSumIsWithinRounding) {
  using T = TypeParam;
  on_every_backend([](Communicator& ranks) {
    constexpr std::size_t kLength = 1003;
    std::vector<double> exact(kLength, 0.0), size(kLength, 0.0);
    for (int rank = 0; rank < ranks.size(); ++rank) {
      const std::vector<T> part = rough_numbers<T>(rank, kLength);
      for (std::size_t i = 0; i < kLength; ++i) {
        exact[i] += static_cast<double>(part[i]);
        size[i] += std::abs(static_cast<double>(part[i]));
      }
    }
    std::vector<T> data = rough_numbers<T>(ranks.rank(), kLength);
    ranks.all_reduce(std::span<T>(data), Reduction::sum);
    for (std::size_t i = 0; i < kLength; ++i) {
      const double bound = ranks.size() * static_cast<double>(std::numeric_limits<T>::epsilon()) * size[i];
      ASSERT_NEAR(static_cast<double>(data[i]), exact[i], bound) << "element " << i;
    }
  });
}

TEST(CollectivesOfText, BroadcastIgnoresWhatTheOthersPass) {
  on_every_backend([](Communicator& ranks) {
    for (int root = 0; root < ranks.size(); ++root) {
      for (const std::string& text : {std::string(), std::string("a\0b", 3), std::string(5000, 'x')}) {
        const std::string mine = ranks.rank() == root ? text : fmt::format("not this, rank {}", ranks.rank());
        EXPECT_EQ(ranks.broadcast_text(mine, root), text);
      }
    }
  });
}

TEST(CollectivesOfText, AllGatherKeepsEmptyTexts) {
  on_every_backend([](Communicator& ranks) {
    std::vector<std::string> expected;
    for (int rank = 0; rank < ranks.size(); ++rank)
      expected.push_back(std::string(static_cast<std::size_t>(rank * 41 % 3) * 30, 'a'));
    EXPECT_EQ(ranks.all_gather_text(expected[static_cast<std::size_t>(ranks.rank())]), expected);
  });
}

TEST(CollectivesOfStructs, TravelByteByByte) {
  struct Pair {
    std::int32_t number;
    float value;
    bool operator==(const Pair&) const = default;
  };
  on_every_backend([](Communicator& ranks) {
    std::vector<Pair> mine(static_cast<std::size_t>(ranks.rank()), Pair{ranks.rank(), 0.5f});
    const std::vector<Pair> all = ranks.all_gather(std::span<const Pair>(mine));
    std::size_t next = 0;
    for (int rank = 0; rank < ranks.size(); ++rank) {
      for (int i = 0; i < rank; ++i) EXPECT_EQ(all.at(next++), (Pair{rank, 0.5f}));
    }
    EXPECT_EQ(next, all.size());
  });
}

TEST(Ranks, AreNumberedAndNamed) {
  for (const Backend& backend : backends()) {
    backend.on_ranks([&](Communicator& ranks) {
      EXPECT_EQ(ranks.name(), backend.name);
      EXPECT_EQ(ranks.size(), backend.ranks);
      EXPECT_EQ(ranks.is_root(), ranks.rank() == 0);
      const std::int32_t mine = ranks.rank();
      const std::vector<std::int32_t> all = ranks.all_gather(std::span<const std::int32_t>(&mine, 1));
      ASSERT_EQ(all.size(), static_cast<std::size_t>(ranks.size()));
      for (int rank = 0; rank < ranks.size(); ++rank) EXPECT_EQ(all[static_cast<std::size_t>(rank)], rank);
    });
  }
}

TEST(Ranks, RootOutOfRangeIsABug) {
  on_every_backend([](Communicator& ranks) {
    std::int32_t value = 0;
    EXPECT_THROW(ranks.broadcast(std::span<std::int32_t>(&value, 1), ranks.size()), BugError);
    EXPECT_THROW(ranks.broadcast(std::span<std::int32_t>(&value, 1), -1), BugError);
  });
}

TEST(Node, IsACommunicatorOfItsOwn) {
  on_every_backend([](Communicator& ranks) {
    {
      // Here all ranks are on one node, so both have the same ranks.
      const std::unique_ptr<Communicator> node = ranks.split_by_node();
      EXPECT_EQ(node->name(), ranks.name());
      EXPECT_EQ(node->rank(), ranks.rank());
      EXPECT_EQ(node->size(), ranks.size());
      const std::unique_ptr<Communicator> again = node->split_by_node();
      // In turns: messages of one must not be taken for messages of another.
      for (Communicator* each : {node.get(), &ranks, again.get(), &ranks}) {
        EXPECT_EQ(each->all_reduce_value(std::int64_t{1}, Reduction::sum), ranks.size());
        each->barrier();
      }
    }
    EXPECT_EQ(ranks.all_reduce_value(std::int64_t{1}, Reduction::sum), ranks.size());
  });
}

}  // namespace
}  // namespace moextract::comm
