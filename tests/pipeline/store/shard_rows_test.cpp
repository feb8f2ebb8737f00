// Several shards as one sequence of rows.
#include "store/shard_rows.h"

#include <algorithm>
#include <map>

#include "shard_fixture.h"

namespace moextract::store {
namespace {

/// Shards of 0, 30, 0, 9 and 0 rows, whose values follow one formula over all rows.
std::vector<std::filesystem::path> five_shards(const TemporaryFolder& folder) {
  std::vector<std::filesystem::path> paths;
  std::int64_t row = 0;
  for (const std::int64_t images : {0, 20, 1, 7, 0}) {
    ExampleShard example;
    example.images = images;
    example.first_row = row;
    row += example.rows();
    paths.push_back(folder / (std::to_string(paths.size()) + ".h5"));
    example.write(paths.back());
  }
  return paths;
}

TEST(ShardRows, ListsEveryShardWithItsPlace) {
  const TemporaryFolder folder;
  const auto paths = five_shards(folder);
  const std::vector<ShardExtent> shards = list_shards(paths);
  ASSERT_EQ(shards.size(), 5u);
  const std::int64_t rows[] = {0, 30, 0, 9, 0}, first[] = {0, 0, 30, 30, 39};
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(shards[i].path, paths[i]);
    EXPECT_EQ(shards[i].rows, rows[i]);
    EXPECT_EQ(shards[i].first_global, first[i]);
  }
  EXPECT_TRUE(list_shards({}).empty());
}

TEST(ShardRows, StreamsAllRowsInOrderWithAnyBlockSize) {
  const TemporaryFolder folder;
  const auto shards = list_shards(five_shards(folder));
  for (const std::int64_t block : {1, 2, 7, 29, 30, 31, 1000}) {
    std::int64_t next = 0, largest = 0;
    stream_rows(shards, 2, Tap::h, block,
                [&](std::int64_t first, std::int64_t count, std::span<const std::uint16_t> rows) {
                  ASSERT_EQ(first, next);
                  ASSERT_EQ(static_cast<std::int64_t>(rows.size()), count * 24);
                  EXPECT_TRUE(first + count <= 30 || first >= 30) << "a block crosses shards";
                  for (std::int64_t i = 0; i < count * 24; ++i) {
                    ASSERT_EQ(rows[static_cast<std::size_t>(i)], example_value(2, Tap::h, first + i / 24, i % 24));
                  }
                  next += count;
                  largest = std::max(largest, count);
                });
    EXPECT_EQ(next, 39) << block;
    EXPECT_EQ(largest, std::min<std::int64_t>(block, 30));
  }
}

TEST(ShardRows, StreamsOneRanksPart) {
  const TemporaryFolder folder;
  const auto shards = list_shards(five_shards(folder));
  std::int64_t rows = 0;
  stream_rows(std::span(shards).subspan(2), 7, Tap::x, 4, [&](std::int64_t first, std::int64_t count, auto) {
    EXPECT_EQ(first, 30 + rows);
    rows += count;
  });
  EXPECT_EQ(rows, 9);
  stream_rows({}, 7, Tap::x, 4, [](std::int64_t, std::int64_t, auto) { ADD_FAILURE() << "there is nothing to visit"; });
}

TEST(ShardRows, PartsOfRowsAreEvenOnAnyNumberOfRanks) {
  const TemporaryFolder folder;
  const auto shards = list_shards(five_shards(folder));
  for (const int parts : {1, 2, 3, 4, 7, 39, 64}) {
    std::int64_t next = 0;
    for (int part = 0; part < parts; ++part) {
      std::int64_t rows = 0;
      stream_rows(part_of_rows(shards, part, parts), 2, Tap::h, 4,
                  [&](std::int64_t first, std::int64_t count, std::span<const std::uint16_t> values) {
                    ASSERT_EQ(first, next);
                    for (std::int64_t i = 0; i < count * 24; ++i) {
                      ASSERT_EQ(values[static_cast<std::size_t>(i)], example_value(2, Tap::h, first + i / 24, i % 24));
                    }
                    next += count;
                    rows += count;
                  });
      EXPECT_GE(rows, 39 / parts);
      EXPECT_LE(rows, 39 / parts + 1);
    }
    EXPECT_EQ(next, 39) << parts;
  }
}

TEST(ShardRows, ShuffledBlocksAreTheSameOnAnyNumberOfRanks) {
  const TemporaryFolder folder;
  const auto shards = list_shards(five_shards(folder));
  const auto blocks_of = [&](std::uint64_t seed, int parts) {
    std::map<std::size_t, std::vector<std::int64_t>> blocks;  // by their place in the whole order
    for (int part = 0; part < parts; ++part) {
      std::size_t place = static_cast<std::size_t>(part);
      stream_shuffled_rows(shards, 7, Tap::x, 4, seed, part, parts, [&](const ShuffledBlock& block) {
        ASSERT_EQ(block.values.size(), block.index.size() * 3);
        for (std::size_t i = 0; i < block.values.size(); ++i) {
          ASSERT_EQ(block.values[i], example_value(7, Tap::x, block.index[i / 3], static_cast<std::int64_t>(i % 3)));
        }
        blocks[place].assign(block.index.begin(), block.index.end());
        place += static_cast<std::size_t>(parts);
      });
    }
    return blocks;
  };
  const auto once = blocks_of(5, 1);
  ASSERT_EQ(once.size(), 11u);  // 30 rows in 8 blocks of 4, 9 rows in 3
  std::vector<std::int64_t> all;
  for (const auto& [place, rows] : once) all.insert(all.end(), rows.begin(), rows.end());
  EXPECT_FALSE(std::is_sorted(all.begin(), all.end()));
  std::sort(all.begin(), all.end());
  for (std::int64_t row = 0; row < 39; ++row) EXPECT_EQ(all.at(static_cast<std::size_t>(row)), row);
  for (const int parts : {2, 3, 4, 20}) EXPECT_EQ(blocks_of(5, parts), once) << parts;
  EXPECT_NE(blocks_of(6, 1), once);
}

TEST(ShardRows, DisagreeingShardsAreNamedBoth) {
  const TemporaryFolder folder;
  ExampleShard().write(folder / "good.h5");
  const auto expect = [&](const char* part, const auto& change) {
    ExampleShard other;
    other.images = 0;
    change(other.info);
    other.write(folder / "other.h5");
    const std::vector<std::filesystem::path> paths = {folder / "good.h5", folder / "other.h5"};
    const std::string message = user_error(ExitCode::input, [&] { list_shards(paths); });
    for (const std::string& text : {std::string(part), paths[0].string(), paths[1].string()}) {
      EXPECT_NE(message.find(text), std::string::npos) << text << " in: " << message;
    }
  };
  expect("models", [](ShardInfo& info) { info.model_hash = "ffff"; });
  expect("image sets", [](ShardInfo& info) { info.data_fingerprint = "others"; });
  expect("seeds", [](ShardInfo& info) { info.seed = 18; });
  expect("widths", [](ShardInfo& info) { info.layers[0].h_width = 25; });
  expect("layers", [](ShardInfo& info) { info.layers.pop_back(); });
}

TEST(ShardRows, ALayerThatWasNotRecordedIsNamed) {
  const TemporaryFolder folder;
  const auto shards = list_shards(five_shards(folder));
  const auto nothing = [](std::int64_t, std::int64_t, auto) {};
  std::string message = user_error(ExitCode::input, [&] { stream_rows(shards, 7, Tap::h, 4, nothing); });
  EXPECT_NE(message.find("h of layer 7"), std::string::npos) << message;
  message = user_error(ExitCode::input, [&] { stream_rows(shards, 3, Tap::x, 4, nothing); });
  EXPECT_NE(message.find("x of layer 3"), std::string::npos) << message;
}

TEST(ShardRows, AShardReplacedMeanwhileIsNoticed) {
  const TemporaryFolder folder;
  const auto shards = list_shards(five_shards(folder));
  ExampleShard other;
  other.images = 5;
  other.write(shards[1].path);
  const std::string message =
      user_error(ExitCode::input, [&] { stream_rows(shards, 2, Tap::x, 4, [](std::int64_t, std::int64_t, auto) {}); });
  EXPECT_NE(message.find(shards[1].path.string()), std::string::npos) << message;
}

}  // namespace
}  // namespace moextract::store
