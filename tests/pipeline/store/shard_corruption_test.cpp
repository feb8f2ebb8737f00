// Files that are no shards, or no longer: an error that names the file, or the right values; never a crash.
#include <hdf5.h>

#include <functional>
#include <set>

#include "core/random.h"
#include "shard_fixture.h"

// HDF5 1.10 loses some memory of its own where it refuses a damaged file; asked for by the address sanitizer.
extern "C" const char* __lsan_default_suppressions() {
  return "leak:libhdf5";
}

namespace moextract::store {
namespace {

/// Opens and reads everything. True if it could be read, in which case it must be what was written.
bool reads(const std::filesystem::path& path, const ExampleShard& example) {
  try {
    const ShardReader reader(path);
    example.expect_in(reader);
    return true;
  } catch (const UserError& error) {
    const std::string message = error.what();
    EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(ExitCode::input)) << message;
    EXPECT_NE(message.find(path.string()), std::string::npos) << message;
    EXPECT_NE(message.find("moextract collect"), std::string::npos) << message;
    return false;
  }
}

std::string why_not(const std::filesystem::path& path) {
  const std::string message = user_error(ExitCode::input, [&] { ShardReader reader(path); });
  EXPECT_NE(message.find(path.string()), std::string::npos) << message;
  EXPECT_NE(message.find("moextract collect"), std::string::npos) << message;
  return message;
}

void expect_why_not(const std::filesystem::path& path, const std::string& part) {
  const std::string message = why_not(path);
  EXPECT_NE(message.find(part), std::string::npos) << "'" << part << "' in: " << message;
}

TEST(ShardCorruption, Truncated) {
  const TemporaryFolder folder;
  const ExampleShard example;
  example.write(folder / "a.h5");
  const std::string whole = bytes_of(folder / "a.h5");
  for (std::size_t i = 0; i < 10; ++i) {
    put_bytes(folder / "cut.h5", whole.substr(0, whole.size() * i / 10 + (i == 9 ? whole.size() / 10 - 1 : 0)));
    EXPECT_FALSE(reads(folder / "cut.h5", example)) << i;
  }
  put_bytes(folder / "cut.h5", whole.substr(0, whole.size() - 1));
  EXPECT_FALSE(reads(folder / "cut.h5", example));
}

TEST(ShardCorruption, FlippedBytes) {
  const TemporaryFolder folder;
  const ExampleShard example;
  example.write(folder / "a.h5");
  const std::string whole = bytes_of(folder / "a.h5");
  RandomStream random(20240607, 1);
  std::set<std::size_t> places;
  for (std::size_t i = 0; i < 48; ++i) places.insert(i);  // the superblock, whole
  while (places.size() < 48 + 300) places.insert(random.below(whole.size()));
  int refused = 0;
  for (const std::size_t place : places) {
    std::string flipped = whole;
    flipped[place] = static_cast<char>(flipped[place] ^ static_cast<char>(1 + random.below(255)));
    put_bytes(folder / "flipped.h5", flipped);
    refused += reads(folder / "flipped.h5", example) ? 0 : 1;
    ASSERT_FALSE(testing::Test::HasFailure()) << "byte " << place << " of " << whole.size();
  }
  EXPECT_GT(refused, 100) << "most bytes of a shard mean something";
}

TEST(ShardCorruption, FlippedValuesOfALargeShard) {
  const TemporaryFolder folder;
  ExampleShard example;
  example.info.layers = {{0, 0, 3000}};
  example.images = 60;
  example.info.image_count = 120;
  example.write(folder / "a.h5");
  const std::string whole = bytes_of(folder / "a.h5");
  RandomStream random(20240607, 2);
  for (int i = 0; i < 50; ++i) {
    std::string flipped = whole;
    flipped[random.below(whole.size())] ^= static_cast<char>(1 << random.below(8));
    put_bytes(folder / "flipped.h5", flipped);
    reads(folder / "flipped.h5", example);
    ASSERT_FALSE(testing::Test::HasFailure());
  }
}

TEST(ShardCorruption, FlippedBytesOfACompressedShard) {
  const TemporaryFolder folder;
  ExampleShard example;
  example.info.layers = {{0, 40, 3000}};
  example.images = 60;
  example.info.image_count = 120;
  example.compression = Compression::deflate;
  example.write(folder / "a.h5");
  const std::string whole = bytes_of(folder / "a.h5");
  RandomStream random(20240607, 3);
  int refused = 0;
  for (int i = 0; i < 200; ++i) {
    std::string flipped = whole;
    flipped[random.below(whole.size())] ^= static_cast<char>(1 << random.below(8));
    put_bytes(folder / "flipped.h5", flipped);
    refused += reads(folder / "flipped.h5", example) ? 0 : 1;
    ASSERT_FALSE(testing::Test::HasFailure());
  }
  EXPECT_GT(refused, 100);
}

TEST(ShardCorruption, VerifyLooksAtEveryChunk) {
  const TemporaryFolder folder;
  ExampleShard example;
  example.info.layers = {{4, 0, 3000}};
  example.images = 60;
  example.info.image_count = 120;
  example.write(folder / "a.h5");
  std::string bytes = bytes_of(folder / "a.h5");
  bytes[bytes.size() / 2] ^= 8;  // in the middle of the hidden values: nothing that opening looks at
  put_bytes(folder / "a.h5", bytes);
  const ShardReader reader(folder / "a.h5");
  const std::string message = user_error(ExitCode::input, [&] { reader.verify(); });
  EXPECT_NE(message.find("a.h5"), std::string::npos) << message;
}

TEST(ShardCorruption, NotAShard) {
  const TemporaryFolder folder;
  expect_why_not(folder / "missing.h5", "No such file");
  expect_why_not(folder / "", "not a file");
  put_bytes(folder / "empty.h5", "");
  expect_why_not(folder / "empty.h5", "empty");
  put_bytes(folder / "text.h5", "This is a text and no shard.\n");
  expect_why_not(folder / "text.h5", "not an HDF5 file");
  put_bytes(folder / "short.h5", "\x89HDF");
  expect_why_not(folder / "short.h5", "not an HDF5 file");
}

TEST(ShardCorruption, ForeignHdf5) {
  const TemporaryFolder folder;
  const auto old_path = folder / "old.h5", new_path = folder / "new.h5";
  hid_t file = H5Fcreate(old_path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  H5Fclose(file);
  expect_why_not(old_path, "did not write");
  const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
  H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110);
  file = H5Fcreate(new_path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access);
  H5Fclose(file);
  H5Pclose(access);
  expect_why_not(new_path, "attribute 'format'");
}

/// A good shard, changed by HDF5 itself: every checksum is right and only the content is wrong.
class ShardForgery : public testing::Test {
 protected:
  void SetUp() override {
    example_.write(path_);
    file_ = H5Fopen(path_.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
    ASSERT_GE(file_, 0);
  }
  void expect(const std::string& part) {
    ASSERT_GE(H5Fclose(file_), 0);
    expect_why_not(path_, part);
  }
  void set_attribute(const char* name, hid_t type, const void* value) {
    const hid_t attribute = H5Aopen(file_, name, H5P_DEFAULT);
    ASSERT_GE(H5Awrite(attribute, type, value), 0);
    H5Aclose(attribute);
  }
  /// Writes one element of a one-dimensional dataset.
  void set_element(const char* name, hid_t type, hsize_t where, const void* value) {
    const hid_t dataset = H5Dopen2(file_, name, H5P_DEFAULT), space = H5Dget_space(dataset);
    const hsize_t one = 1;
    const hid_t memory = H5Screate_simple(1, &one, nullptr);
    H5Sselect_hyperslab(space, H5S_SELECT_SET, &where, nullptr, &one, nullptr);
    ASSERT_GE(H5Dwrite(dataset, type, memory, space, H5P_DEFAULT, value), 0);
    H5Sclose(memory);
    H5Sclose(space);
    H5Dclose(dataset);
  }
  void resize(const char* name, hsize_t rows, hsize_t columns) {
    const hid_t dataset = H5Dopen2(file_, name, H5P_DEFAULT);
    const hsize_t extent[2] = {rows, columns};
    ASSERT_GE(H5Dset_extent(dataset, extent), 0);
    H5Dclose(dataset);
  }
  /// Puts a fresh dataset of 30 rows in the place of `name`; `properties` may be H5P_DEFAULT (contiguous).
  void replace(const char* name, hid_t type, int rank, const hsize_t* extent, hid_t properties) {
    ASSERT_GE(H5Ldelete(file_, name, H5P_DEFAULT), 0);
    const hsize_t most[2] = {H5S_UNLIMITED, H5S_UNLIMITED};
    const hid_t space = H5Screate_simple(rank, extent, properties == H5P_DEFAULT ? nullptr : most);
    const hid_t dataset = H5Dcreate2(file_, name, type, space, H5P_DEFAULT, properties, H5P_DEFAULT);
    ASSERT_GE(dataset, 0);
    H5Dclose(dataset);
    H5Sclose(space);
  }

  TemporaryFolder folder_;
  ExampleShard example_;
  std::filesystem::path path_ = folder_ / "a.h5";
  hid_t file_ = -1;
};

TEST_F(ShardForgery, Unchanged) {
  H5Fclose(file_);
  EXPECT_TRUE(reads(path_, example_));
}
TEST_F(ShardForgery, OtherVersion) {
  const std::int64_t version = 2;
  set_attribute("format_version", H5T_NATIVE_INT64, &version);
  expect("format version 2");
}
TEST_F(ShardForgery, OtherFormat) {
  const hid_t type = H5Tcopy(H5T_C_S1);
  H5Tset_size(type, 6);
  H5Tset_cset(type, H5T_CSET_UTF8);
  set_attribute("format", type, "atoms");
  H5Tclose(type);
  expect("'atoms'");
}
TEST_F(ShardForgery, MissingAttribute) {
  H5Adelete(file_, "seed");
  expect("'seed'");
}
TEST_F(ShardForgery, AttributeOfAnotherType) {
  H5Adelete(file_, "seed");
  const hid_t space = H5Screate(H5S_SCALAR);
  H5Aclose(H5Acreate2(file_, "seed", H5T_IEEE_F64LE, space, H5P_DEFAULT, H5P_DEFAULT));
  H5Sclose(space);
  expect("'seed' has the wrong type");
}
TEST_F(ShardForgery, AttributeOfVariableLength) {
  H5Adelete(file_, "model_hash");
  const hid_t space = H5Screate(H5S_SCALAR), type = H5Tcopy(H5T_C_S1);
  H5Tset_size(type, H5T_VARIABLE);
  H5Aclose(H5Acreate2(file_, "model_hash", type, space, H5P_DEFAULT, H5P_DEFAULT));
  H5Tclose(type);
  H5Sclose(space);
  expect("'model_hash'");
}
TEST_F(ShardForgery, LayerListedTwice) {
  const std::int64_t layers[3] = {2, 0, 2};
  set_attribute("layers", H5T_NATIVE_INT64, layers);
  expect("list of layers");
}
TEST_F(ShardForgery, MissingDataset) {
  H5Ldelete(file_, "layers/0/h", H5P_DEFAULT);
  expect("/layers/0/h");
}
TEST_F(ShardForgery, AnotherWidth) {
  const std::int64_t widths[3] = {6, 0, 4};
  set_attribute("x_width", H5T_NATIVE_INT64, widths);
  expect("3 wide");
}
TEST_F(ShardForgery, FewerRowsInOneDataset) {
  resize("layers/2/x", 29, 6);
  expect("29 rows");
}
TEST_F(ShardForgery, RowsThatWereNeverWritten) {
  resize("layers/2/x", 31, 6);
  expect("lacks some of its rows");
}
TEST_F(ShardForgery, AStatedSizeBeyondTheFile) {
  resize("rows/image", hsize_t{1} << 50, 0);
  resize("rows/token", hsize_t{1} << 50, 0);
  expect("more rows than the file can hold");
}
TEST_F(ShardForgery, AnotherType) {
  const hsize_t extent[2] = {30, 6};
  replace("layers/2/x", H5T_IEEE_F32LE, 2, extent, H5P_DEFAULT);
  expect("wrong type");
}
TEST_F(ShardForgery, AnotherStorage) {
  const hsize_t extent[1] = {30};
  replace("rows/token", H5T_STD_I32LE, 1, extent, H5P_DEFAULT);
  expect("not stored as moextract does");
}
TEST_F(ShardForgery, AHugeChunk) {
  const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
  const hsize_t chunk[1] = {hsize_t{1} << 29}, extent[1] = {30};
  H5Pset_chunk(properties, 1, chunk);
  H5Pset_fletcher32(properties);
  replace("rows/token", H5T_STD_I32LE, 1, extent, properties);
  H5Pclose(properties);
  expect("not stored as moextract does");
}
TEST_F(ShardForgery, DescendingImages) {
  const std::int64_t image = 138;
  set_element("rows/image", H5T_NATIVE_INT64, 3, &image);
  expect("not ascending");
}
TEST_F(ShardForgery, RowOfAnUnlistedImage) {
  const std::int64_t image = 139;
  set_element("rows/image", H5T_NATIVE_INT64, 29, &image);
  expect("names image 139");
}
TEST_F(ShardForgery, ImageOutsideTheRange) {
  const std::int64_t image = 160;
  set_element("images/index", H5T_NATIVE_INT64, 19, &image);
  expect("/images/index");
}
TEST_F(ShardForgery, DescendingTokens) {
  const std::int32_t token = 0;
  set_element("rows/token", H5T_NATIVE_INT32, 5, &token);
  expect("/rows/token");
}
TEST_F(ShardForgery, NotFiniteValueIsFoundOnReading) {
  const hid_t dataset = H5Dopen2(file_, "layers/2/x", H5P_DEFAULT), space = H5Dget_space(dataset);
  const hsize_t start[2] = {11, 4}, one[2] = {1, 1};
  const hid_t memory = H5Screate_simple(2, one, nullptr);
  H5Sselect_hyperslab(space, H5S_SELECT_SET, start, nullptr, one, nullptr);
  const float infinity = HUGE_VALF;
  ASSERT_GE(H5Dwrite(dataset, H5T_NATIVE_FLOAT, memory, space, H5P_DEFAULT, &infinity), 0);
  H5Sclose(memory);
  H5Sclose(space);
  H5Dclose(dataset);
  H5Fclose(file_);
  const ShardReader reader(path_);
  std::vector<std::uint16_t> out(20 * 6);
  const std::string message = user_error(ExitCode::input, [&] { reader.read_rows(2, Tap::x, 10, 20, out); });
  for (const char* part : {"a.h5", "/layers/2/x", "row 11", "column 4"}) {
    EXPECT_NE(message.find(part), std::string::npos) << part << " in: " << message;
  }
  reader.read_rows(2, Tap::x, 0, 11, std::span(out).first(66));
}

}  // namespace
}  // namespace moextract::store
