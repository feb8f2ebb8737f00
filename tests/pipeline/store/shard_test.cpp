// Shards written and read back: by us, by h5py; the same bytes for the same content; errors of the caller and the disk.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>

#include "core/file.h"
#include "shard_fixture.h"

namespace moextract::store {
namespace {

TEST(Shard, ReadsBackWhatWasWritten) {
  const TemporaryFolder folder;
  const ExampleShard example;
  example.write(folder / "a.h5");
  const ShardReader reader(folder / "a.h5");
  example.expect_in(reader);
  EXPECT_EQ(reader.width(99, Tap::x), 0);
  EXPECT_EQ(folder.entries(), 1u) << "no temporary file stays";
}

TEST(Shard, ReadsPartsAcrossChunks) {
  const TemporaryFolder folder;
  ExampleShard example;
  example.info.layers = {{0, 3, 3000}};  // 43 rows a chunk of h
  example.images = 100;
  example.info.image_count = 200;
  example.write(folder / "a.h5", 7);
  const ShardReader reader(folder / "a.h5");
  example.expect_in(reader);
  for (const std::int64_t first : {0, 42, 43, 44, 100}) {
    for (const std::int64_t count : {0, 1, 43, 50}) {
      std::vector<std::uint16_t> out(static_cast<std::size_t>(count * 3000));
      reader.read_rows(0, Tap::h, first, count, out);
      EXPECT_EQ(out, example.values(first, count)[1]) << first << " + " << count;
    }
  }
}

TEST(Shard, ManyLayersAndWideRows) {
  const TemporaryFolder folder;
  ExampleShard example;
  example.info.layers = {{0, 0, 200'000}};  // one row is more than a chunk's bytes
  for (std::int64_t l = 1; l < 30; ++l) example.info.layers.push_back({l, 4, 16});
  example.images = 4;
  example.write(folder / "a.h5");
  example.expect_in(ShardReader(folder / "a.h5"));
}

TEST(Shard, ZeroImagesAndImagesWithoutRows) {
  const TemporaryFolder folder;
  ExampleShard example;
  for (const std::int64_t images : {0, 1}) {  // image 0 has no tokens
    example.images = images;
    ASSERT_EQ(example.rows(), 0);
    const auto path = folder / (std::to_string(images) + ".h5");
    example.write(path);
    const ShardReader reader(path);
    example.expect_in(reader);
    reader.read_rows(2, Tap::x, 0, 0, {});
  }
  example.info.image_count = 0;
  example.info.model_hash.clear();
  example.images = 0;
  example.write(folder / "none.h5");
  example.expect_in(ShardReader(folder / "none.h5"));
}

TEST(Shard, SameContentSameBytes) {
  const TemporaryFolder folder;
  ExampleShard example;
  example.info.layers = {{0, 600, 3000}, {1, 600, 3000}};
  example.images = 90;
  example.info.image_count = 180;
  example.write(folder / "a.h5");
  // Past a second's border: timestamps of HDF5 count seconds.
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));
  example.write(folder / "another_name.h5", 7);
  const std::string bytes = bytes_of(folder / "a.h5");
  EXPECT_GT(bytes.size(), 1024u * 1024) << "several chunks a dataset";
  EXPECT_TRUE(bytes == bytes_of(folder / "another_name.h5")) << "neither time, name nor the cut into appends may show";
  example.info.seed += 1;
  example.write(folder / "b.h5");
  EXPECT_FALSE(bytes == bytes_of(folder / "b.h5"));
}

TEST(Shard, CompressedShardsHoldTheSame) {
  const TemporaryFolder folder;
  ExampleShard example;
  example.info.layers = {{0, 600, 3000}, {1, 0, 7}};
  example.images = 90;
  example.info.image_count = 180;
  example.write(folder / "plain.h5");
  example.compression = Compression::deflate;
  example.write(folder / "a.h5");
  example.write(folder / "b.h5", 7);
  EXPECT_TRUE(bytes_of(folder / "a.h5") == bytes_of(folder / "b.h5"));
  EXPECT_LT(std::filesystem::file_size(folder / "a.h5"), std::filesystem::file_size(folder / "plain.h5") / 2);
  const ShardReader reader(folder / "a.h5");
  example.expect_in(reader);
  reader.verify();
  ExampleShard none;
  none.images = 0;
  none.compression = Compression::deflate;
  none.write(folder / "none.h5");
  none.expect_in(ShardReader(folder / "none.h5"));
}

TEST(Shard, SmallShardIsSmall) {
  const TemporaryFolder folder;
  ExampleShard().write(folder / "a.h5");
  EXPECT_LT(std::filesystem::file_size(folder / "a.h5"), 32u * 1024);
}

TEST(Shard, UnfinishedLeavesNothing) {
  const TemporaryFolder folder;
  const ExampleShard example;
  {
    ShardWriter writer(folder / "a.h5", example.info);
    writer.append(example.all_images(), example.values(0, example.rows()));
    ASSERT_EQ(folder.entries(), 1u);
    EXPECT_FALSE(std::filesystem::exists(folder / "a.h5"));
  }
  EXPECT_EQ(folder.entries(), 0u);
}

TEST(Shard, UnfinishedNameIsRecognised) {
  const TemporaryFolder folder;
  const ExampleShard example;
  ShardWriter writer(folder / "a.h5", example.info);
  for (const auto& entry : std::filesystem::directory_iterator(folder / "")) {
    EXPECT_TRUE(is_temporary_name(entry.path())) << entry.path();
    const std::string message = user_error(ExitCode::input, [&] { ShardReader reader(entry.path()); });
    EXPECT_NE(message.find("unfinished"), std::string::npos) << message;
  }
}

TEST(Shard, FinishReplacesAnOldFile) {
  const TemporaryFolder folder;
  put_bytes(folder / "a.h5", "old");
  const ExampleShard example;
  example.write(folder / "a.h5");
  example.expect_in(ShardReader(folder / "a.h5"));
}

TEST(Shard, NonFiniteValueIsNamedAndNothingIsTaken) {
  const TemporaryFolder folder;
  const ExampleShard example;
  const std::vector<ShardImage> list = example.all_images();
  ShardWriter writer(folder / "a.h5", example.info);
  for (const std::uint16_t poison : {0x7c00, 0xfc00, 0x7e01}) {
    auto values = example.values(0, example.rows());
    values[1][5 * 24 + 9] = poison;  // layer 2, h, row 5: images 1, 2, 3 have 1, 2, 3 tokens, so token 2 of image 3
    const std::string message = user_error(ExitCode::numerics, [&] { writer.append(list, values); });
    for (const char* part : {"layer 2", "h:", "token 4 ", "image 106", "_9)", "neuron 9"}) {
      EXPECT_NE(message.find(part), std::string::npos) << part << " in: " << message;
    }
  }
  writer.append(list, example.values(0, example.rows()));
  writer.finish();
  example.expect_in(ShardReader(folder / "a.h5"));
}

TEST(Shard, CallersMistakesAreBugs) {
  const TemporaryFolder folder;
  const ExampleShard example;
  std::vector<ShardImage> list = example.all_images();
  auto values = example.values(0, example.rows());
  ShardWriter writer(folder / "a.h5", example.info);
  auto too_few = values;
  too_few[0].pop_back();
  EXPECT_THROW(writer.append(list, too_few), BugError);
  EXPECT_THROW(writer.append(list, std::span(values).first(5)), BugError);
  std::swap(list[1].index, list[2].index);
  EXPECT_THROW(writer.append(list, values), BugError) << "descending images";
  std::swap(list[1].index, list[2].index);
  list.back().index = 160;
  EXPECT_THROW(writer.append(list, values), BugError) << "outside the range";
  list.back().index = 138;
  std::swap(list[2].tokens[0], list[2].tokens[1]);
  EXPECT_THROW(writer.append(list, values), BugError) << "descending tokens";
  std::swap(list[2].tokens[0], list[2].tokens[1]);
  writer.append(list, values);
  writer.finish();
  EXPECT_THROW(writer.finish(), BugError);
  EXPECT_THROW(ShardWriter(folder / "b.h5", ShardInfo{}), BugError) << "no layers";
}

TEST(Shard, UnwritableFolderIsAStorageError) {
  const TemporaryFolder folder;
  const std::string message =
      user_error(ExitCode::storage, [&] { ShardWriter writer(folder / "missing/a.h5", ExampleShard().info); });
  EXPECT_NE(message.find("missing/a.h5"), std::string::npos) << message;
  EXPECT_NE(message.find("No such file"), std::string::npos) << message;
}

/// A disk that is full after `bytes`: the nearest thing a test can have without being root.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    old_handler_ = std::signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limit{bytes, old_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, old_handler_);
  }

 private:
  rlimit old_{};
  void (*old_handler_)(int) = nullptr;
};

TEST(Shard, FullDiskIsAStorageErrorAndLeavesNothing) {
  const TemporaryFolder folder;
  ExampleShard example;
  example.info.layers = {{0, 0, 3000}};
  example.images = 100;
  example.info.image_count = 200;
  for (const rlim_t bytes : {rlim_t{100}, rlim_t{4096}, rlim_t{400'000}, rlim_t{600'000}, rlim_t{1'000'000}}) {
    const FileSizeLimit limit(bytes);
    const std::string message = user_error(ExitCode::storage, [&] { example.write(folder / "a.h5", 5); });
    EXPECT_NE(message.find("a.h5"), std::string::npos) << message;
    EXPECT_NE(message.find("File too large)"), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    EXPECT_EQ(folder.entries(), 0u) << bytes;
  }
  example.write(folder / "a.h5", 5);
  example.expect_in(ShardReader(folder / "a.h5"));
}

TEST(Shard, ProcessEndsWellAfterAFullDisk) {
  // HDF5 1.10 is known to crash at exit after a close that failed.
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto code_of_full_disk = [] {
    const TemporaryFolder folder;
    ExampleShard example;
    example.info.layers = {{0, 0, 3000}};
    const FileSizeLimit limit(60'000);
    try {
      example.write(folder / "a.h5");
    } catch (const UserError& error) {
      std::fprintf(stderr, "%s\n", error.what());
      return static_cast<int>(error.code());
    }
    return 0;
  };
  EXPECT_EXIT(std::exit(code_of_full_disk()), testing::ExitedWithCode(static_cast<int>(ExitCode::storage)),
              "a.h5: the shard cannot be written");
}

TEST(Shard, TwoReadersAndAMovedOne) {
  const TemporaryFolder folder;
  const ExampleShard example;
  example.write(folder / "a.h5");
  ShardReader first(folder / "a.h5");
  const ShardReader second(folder / "a.h5");
  const ShardReader moved(std::move(first));
  example.expect_in(moved);
  example.expect_in(second);
}

TEST(Shard, H5pyReadsIt) {
  const char* python = std::getenv("MOEXTRACT_TEST_PYTHON");
  if (python == nullptr) GTEST_SKIP() << "set MOEXTRACT_TEST_PYTHON to a Python that has h5py and numpy";
  const TemporaryFolder folder;
  ExampleShard example;
  for (const Compression compression : {Compression::none, Compression::deflate}) {
    example.compression = compression;
    example.write(folder / "a.h5");
    const std::string command =
        std::string(python) + " " MOEXTRACT_GOLDEN_DIR "/read_shard.py " + (folder / "a.h5").string();
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
  }
}

}  // namespace
}  // namespace moextract::store
