// safetensors: round trips, layout, every kind of broken header, and the format's own library as a judge.
#include "store/safetensors.h"

#include <sys/resource.h>

#include <csignal>
#include <cstdlib>
#include <cstring>

#include "core/random.h"
#include "shard_fixture.h"

namespace moextract::store {
namespace {

template <class Number>
TensorView view_of(TensorType type, std::vector<std::int64_t> shape, const std::vector<Number>& values) {
  return {type, std::move(shape), std::as_bytes(std::span(values))};
}

/// One tensor of most types; tests/golden/read_safetensors.py expects the same.
struct Example {
  std::vector<std::uint8_t> bytes = {1, 2, 3}, flags = {1, 0, 1};
  std::vector<std::uint16_t> halves = {half_of(0.5f), half_of(-2.0f)};
  std::vector<float> floats = {1, 2, 3, 4, 5, 6.5f}, none;
  std::vector<std::int64_t> longs = {-1, std::int64_t{1} << 40};
  std::vector<std::int32_t> scalar = {7};
  std::map<std::string, TensorView> tensors = {
      {"a.bytes", view_of(TensorType::u8, {3}, bytes)},      {"b.half", view_of(TensorType::f16, {2, 1}, halves)},
      {"c.float", view_of(TensorType::f32, {2, 3}, floats)}, {"d.long", view_of(TensorType::i64, {2}, longs)},
      {"e.scalar", view_of(TensorType::i32, {}, scalar)},    {"f.empty", view_of(TensorType::f32, {0, 5}, none)},
      {"g.bool", view_of(TensorType::boolean, {3}, flags)}};
  std::map<std::string, std::string> metadata = {{"format", "pt"}, {"note", "quote \" and \xc3\xa9"}};
};

void expect_same(const std::map<std::string, TensorView>& found, const std::map<std::string, TensorView>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (const auto& [name, view] : expected) {
    ASSERT_TRUE(found.contains(name)) << name;
    const TensorView& other = found.at(name);
    EXPECT_EQ(other.type, view.type) << name;
    EXPECT_EQ(other.shape, view.shape) << name;
    EXPECT_TRUE(std::equal(other.data.begin(), other.data.end(), view.data.begin(), view.data.end())) << name;
  }
}

/// A file with this header and so many bytes of data.
std::string file_of(const std::string& header, std::size_t data_bytes) {
  std::string file(8, '\0');
  const std::uint64_t length = header.size();
  std::memcpy(file.data(), &length, 8);
  return file + header + std::string(data_bytes, '\x01');
}

TEST(Safetensors, ReadsBackWhatWasWritten) {
  const TemporaryFolder folder;
  const Example example;
  write_safetensors(folder / "a.safetensors", example.tensors, example.metadata);
  SafetensorsFile file(folder / "a.safetensors");
  const SafetensorsFile moved(std::move(file));
  expect_same(moved.tensors(), example.tensors);
  EXPECT_EQ(moved.metadata(), example.metadata);
  EXPECT_EQ(moved.path(), folder / "a.safetensors");
  EXPECT_EQ(moved.tensors().at("c.float").elements(), 6);
  EXPECT_EQ(moved.tensors().at("e.scalar").elements(), 1);
  EXPECT_EQ(moved.tensors().at("f.empty").elements(), 0);
  EXPECT_EQ(folder.entries(), 1u);
}

TEST(Safetensors, LayoutIsDeterministicContiguousAndAligned) {
  const TemporaryFolder folder;
  Example example;
  for (int extra = 0; extra < 70; ++extra) {  // every padding
    example.metadata["note"] = std::string(static_cast<std::size_t>(extra), 'x');
    write_safetensors(folder / "a.safetensors", example.tensors, example.metadata);
    write_safetensors(folder / "b.safetensors", example.tensors, example.metadata);
    const std::string bytes = bytes_of(folder / "a.safetensors");
    ASSERT_EQ(bytes, bytes_of(folder / "b.safetensors"));
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data(), 8);
    ASSERT_EQ((8 + length) % 64, 0u);
    ASSERT_EQ(bytes.size(), 8 + length + 16 + 24 + 4 + 4 + 3 + 3) << "no holes";
    const SafetensorsFile file(folder / "a.safetensors");
    for (const auto& [name, view] : file.tensors()) {
      ASSERT_EQ(reinterpret_cast<std::uintptr_t>(view.data.data()) % type_size(view.type), 0u) << name;
    }
    const auto& tensors = file.tensors();
    ASSERT_EQ(reinterpret_cast<std::uintptr_t>(tensors.at("d.long").data.data()) % 64, 0u);
    ASSERT_LT(tensors.at("c.float").data.data(), tensors.at("e.scalar").data.data()) << "same size: by name";
  }
}

TEST(Safetensors, NoTensorsAndNoMetadata) {
  const TemporaryFolder folder;
  write_safetensors(folder / "a.safetensors", {}, {});
  const SafetensorsFile file(folder / "a.safetensors");
  EXPECT_TRUE(file.tensors().empty());
  EXPECT_TRUE(file.metadata().empty());
}

TEST(Safetensors, TypeNamesAndSizes) {
  EXPECT_EQ(type_name(TensorType::bf16), "BF16");
  EXPECT_EQ(type_size(TensorType::bf16), 2u);
  EXPECT_EQ(type_name(TensorType::boolean), "BOOL");
  EXPECT_EQ(type_size(TensorType::boolean), 1u);
  EXPECT_EQ(type_name(TensorType::f64), "F64");
  EXPECT_EQ(type_size(TensorType::f64), 8u);
}

TEST(Safetensors, HolesAndTrailingSpaceAreTolerated) {
  const TemporaryFolder folder;
  put_bytes(folder / "a", file_of(R"({"b":{"dtype":"U8","shape":[2],"data_offsets":[6,8]},)"
                                  R"("a":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]}}   )",
                                  12));
  const SafetensorsFile file(folder / "a");
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.tensors().at("a").type, TensorType::bf16);
  EXPECT_EQ(file.tensors().at("b").data.size(), 2u);
}

struct BrokenHeader {
  const char* header;
  const char* message;
};

TEST(Safetensors, BrokenHeadersAreNamed) {
  const BrokenHeader cases[] = {
      {"", "brace"},
      {" {}", "brace"},
      {"[]", "brace"},
      {"{", "JSON"},
      {"{}x", "JSON"},
      {"{\"a\xff\":1}", "JSON"},
      {R"({"a":1})", "'a' is not described by an object"},
      {R"({"a":{"shape":[1],"data_offsets":[0,4]}})", "'a' has no 'dtype'"},
      {R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", "'a' has no 'shape'"},
      {R"({"a":{"dtype":"F32","shape":[1]}})", "'a' has no 'data_offsets'"},
      {R"({"a":{"dtype":"F8_E5M2","shape":[1],"data_offsets":[0,1]}})", "'F8_E5M2'"},
      {R"({"a":{"dtype":4,"shape":[1],"data_offsets":[0,4]}})", "dtype"},
      {R"({"a":{"dtype":"F32","shape":1,"data_offsets":[0,4]}})", "shape"},
      {R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", "shape"},
      {R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", "shape"},
      {R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4]}})", "shape"},
      {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", "too large"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", "need 8"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", "outside the file"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[6,10]}})", "outside the file"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", "data_offsets"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,"4"]}})", "data_offsets"},
      {R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
       "overlap"},
      {R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"a":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}})",
       "'a' twice"},
      {R"({"__metadata__":[]})", "metadata"},
      {R"({"__metadata__":{"step":3}})", "'step'"},
      {R"({"a":{"dtype":[[[[]]]]}})", "nested"},
  };
  const TemporaryFolder folder;
  for (const BrokenHeader& broken : cases) {
    put_bytes(folder / "a", file_of(broken.header, 8));
    const std::string message = user_error(ExitCode::input, [&] { SafetensorsFile file(folder / "a"); });
    EXPECT_NE(message.find((folder / "a").string()), std::string::npos) << message;
    EXPECT_NE(message.find(broken.message), std::string::npos) << broken.header << " gives: " << message;
  }
}

TEST(Safetensors, FilesThatAreNone) {
  const TemporaryFolder folder;
  const auto why = [&](const std::string& name) {
    return user_error(ExitCode::input, [&] { SafetensorsFile file(folder / name); });
  };
  EXPECT_NE(why("missing").find("No such file"), std::string::npos);
  EXPECT_NE(why("").find("not a file"), std::string::npos);
  put_bytes(folder / "empty", "");
  EXPECT_NE(why("empty").find("empty"), std::string::npos);
  put_bytes(folder / "short", "abc");
  EXPECT_NE(why("short").find("3 bytes"), std::string::npos);
  put_bytes(folder / "text", "This is a text and no tensor file.\n");
  EXPECT_NE(why("text").find("header claims"), std::string::npos);
  // Just beyond the end, and so large that adding 8 wraps round.
  for (const std::uint64_t length : {std::uint64_t{3}, ~std::uint64_t{0}, ~std::uint64_t{0} - 7}) {
    std::string bytes = file_of("{}", 0);
    std::memcpy(bytes.data(), &length, 8);
    put_bytes(folder / "long", bytes);
    EXPECT_NE(why("long").find("header claims"), std::string::npos) << length;
  }
}

TEST(Safetensors, DamageNeverCrashes) {
  const TemporaryFolder folder;
  const Example example;
  write_safetensors(folder / "a", example.tensors, example.metadata);
  const std::string whole = bytes_of(folder / "a");
  RandomStream random(20240607, 3);
  int refused = 0;
  for (int i = 0; i < 500; ++i) {
    std::string damaged = whole;
    if (i < 100) {
      damaged.resize(random.below(whole.size()));
    } else {
      damaged[random.below(whole.size())] ^= static_cast<char>(1 + random.below(255));
    }
    put_bytes(folder / "b", damaged);
    try {
      const SafetensorsFile file(folder / "b");
      for (const auto& [name, view] : file.tensors()) {
        EXPECT_EQ(view.elements() * static_cast<std::int64_t>(type_size(view.type)), std::ssize(view.data));
      }
    } catch (const UserError&) {
      ++refused;
    }
  }
  EXPECT_GE(refused, 200);
}

TEST(Safetensors, CallersMistakesAreBugs) {
  const TemporaryFolder folder;
  Example example;
  example.tensors["c.float"].shape = {2, 4};
  EXPECT_THROW(write_safetensors(folder / "a", example.tensors, {}), BugError);
  EXPECT_EQ(folder.entries(), 0u);
}

TEST(Safetensors, UnwritableIsAStorageErrorAndKeepsTheOldFile) {
  const TemporaryFolder folder;
  const Example example;
  const std::string message =
      user_error(ExitCode::storage, [&] { write_safetensors(folder / "missing/a", example.tensors, {}); });
  EXPECT_NE(message.find("missing/a"), std::string::npos);

  put_bytes(folder / "a", "old");
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  const rlimit limit{100, old.rlim_max};
  setrlimit(RLIMIT_FSIZE, &limit);
  user_error(ExitCode::storage, [&] { write_safetensors(folder / "a", example.tensors, {}); });
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_EQ(bytes_of(folder / "a"), "old");
  EXPECT_EQ(folder.entries(), 1u);
}

TEST(Safetensors, TheFormatsOwnLibraryAgrees) {
  const char* python = std::getenv("MOEXTRACT_TEST_PYTHON");
  if (python == nullptr) GTEST_SKIP() << "set MOEXTRACT_TEST_PYTHON to a Python that has numpy and safetensors";
  const TemporaryFolder folder;
  const Example example;
  write_safetensors(folder / "ours", example.tensors, example.metadata);
  const std::string command = std::string(python) + " " MOEXTRACT_GOLDEN_DIR "/read_safetensors.py " +
                              (folder / "ours").string() + " " + (folder / "theirs").string();
  ASSERT_EQ(std::system(command.c_str()), 0) << command;
  const SafetensorsFile theirs(folder / "theirs");
  EXPECT_EQ(theirs.metadata(), (std::map<std::string, std::string>{{"made by", "safetensors"}}));
  const TensorView& w = theirs.tensors().at("w");
  ASSERT_EQ(w.shape, (std::vector<std::int64_t>{3, 4}));
  for (std::size_t i = 0; i < 12; ++i) {
    float value = 0;
    std::memcpy(&value, w.data.data() + 4 * i, 4);
    EXPECT_EQ(value, static_cast<float>(i));
  }
  EXPECT_EQ(theirs.tensors().at("mask").type, TensorType::boolean);
}

TEST(Safetensors, ReadsATrainedModel) {
  const char* data = std::getenv("MOEXTRACT_TEST_DATA");
  if (data == nullptr) GTEST_SKIP() << "set MOEXTRACT_TEST_DATA to the folder of real models and images";
  const SafetensorsFile file(std::filesystem::path(data) / "vit-tiny-in1k/vit_tiny_patch16_224.safetensors");
  ASSERT_EQ(file.tensors().size(), 152u);
  std::int64_t parameters = 0;
  for (const auto& [name, view] : file.tensors()) {
    EXPECT_EQ(view.type, TensorType::f32) << name;
    parameters += view.elements();
  }
  EXPECT_EQ(parameters, 5'717'416);
  EXPECT_EQ(file.tensors().at("head.weight").shape, (std::vector<std::int64_t>{1000, 192}));
}

}  // namespace
}  // namespace moextract::store
