#include "config/reader.h"

#include <gtest/gtest.h>

#include "sample.h"

namespace moextract::config {
namespace fs = std::filesystem;
namespace {

class Reader : public ConfigFolder {};

TEST_F(Reader, ReadsEveryType) {
  const SampleParams p = read(R"(# comment
name: a name with spaces
cluster:
  k: 16
  rows: 1e5
  seed: 18446744073709551615
  tolerance: 1e-6
  target: 0.64
  limit: null
  start:
    tries: -2
    plus_plus: no
data:
  mean: [0.1, 0.2, 0.3]
  lists: [x, "y z"]
  layers: [0, 11]
  weights:
    - 1
    - 2.5
  storage: separate
)");
  EXPECT_EQ(p.name, "a name with spaces");
  EXPECT_EQ(p.cluster.k, 16);
  EXPECT_EQ(p.cluster.rows, 100000);
  EXPECT_EQ(p.cluster.seed, 18446744073709551615ull);
  EXPECT_EQ(p.cluster.tolerance, 1e-6);
  EXPECT_EQ(p.cluster.target, 0.64);
  EXPECT_EQ(p.cluster.limit, std::nullopt);
  EXPECT_EQ(p.cluster.start.tries, -2);
  EXPECT_FALSE(p.cluster.start.plus_plus);
  EXPECT_EQ(p.data.mean, (std::array<double, 3>{0.1, 0.2, 0.3}));
  EXPECT_EQ(p.data.lists, (std::vector<std::string>{"x", "y z"}));
  EXPECT_EQ(p.data.layers, (std::vector<std::int64_t>{0, 11}));
  EXPECT_EQ(p.data.weights, (std::vector<double>{1, 2.5}));
  EXPECT_EQ(p.data.storage, Storage::separate);
  EXPECT_EQ(p.data.threads, 1) << "not in the file";
}

TEST_F(Reader, ScalarsStandForLists) {
  const SampleParams p = read("data: {mean: 0.25, lists: one, layers: 3, weights: 0.5}\n");
  EXPECT_EQ(p.data.mean, (std::array<double, 3>{0.25, 0.25, 0.25}));
  EXPECT_EQ(p.data.lists, (std::vector<std::string>{"one"}));
  EXPECT_EQ(p.data.layers, (std::vector<std::int64_t>{3}));
  EXPECT_EQ(p.data.weights, (std::vector<double>{0.5}));
}

TEST_F(Reader, EmptyListEmptiesIt) {
  EXPECT_TRUE(read("data: {lists: []}\n").data.lists.empty());
}

TEST_F(Reader, TextsThatLookLikeSomethingElse) {
  EXPECT_EQ(read("name: 1.0\n").name, "1.0");
  EXPECT_EQ(read("name: true\n").name, "true");
  EXPECT_EQ(read("name: 'null'\n").name, "null");
  EXPECT_EQ(read("name: ''\n").name, "");
}

TEST_F(Reader, NullForms) {
  EXPECT_EQ(read("cluster: {limit: ~}\n").cluster.limit, std::nullopt);
  EXPECT_EQ(read("cluster:\n  limit:\n").cluster.limit, std::nullopt);
}

TEST_F(Reader, SectionWithAllKeysCommentedOut) {
  EXPECT_EQ(read("cluster:\n  # k: 3\nname: x\n").cluster.k, 8);
}

TEST_F(Reader, DottedKeys) {
  EXPECT_EQ(read("cluster.k: 3\n").cluster.k, 3);
  EXPECT_EQ(read("cluster:\n  start.tries: 4\n").cluster.start.tries, 4);
}

TEST_F(Reader, WindowsLineEndsAndByteOrderMark) {
  EXPECT_EQ(read("\xef\xbb\xbfname: x\r\ncluster:\r\n  k: 3\r\n").cluster.k, 3);
}

TEST_F(Reader, PathsAreTakenFromTheFilesFolder) {
  SampleParams p = read("data: {images: ../x/./images, cache: out/c}\n");
  EXPECT_EQ(p.data.images, (folder_ / "../x/images").lexically_normal());
  EXPECT_EQ(p.data.cache, "out/c");
  EXPECT_EQ(read("data: {images: /abs/dir}\n").data.images, "/abs/dir");
  EXPECT_EQ(read("data: {images: ''}\n").data.images, "");
}

TEST_F(Reader, Variables) {
  ::setenv("MOEXTRACT_TEST_A", "alpha", 1);
  ::setenv("MOEXTRACT_TEST_EMPTY", "", 1);
  ::unsetenv("MOEXTRACT_TEST_UNSET");
  EXPECT_EQ(read("name: <${MOEXTRACT_TEST_A}>${MOEXTRACT_TEST_A}\n").name, "<alpha>alpha");
  EXPECT_EQ(read("name: ${MOEXTRACT_TEST_A:-beta}\n").name, "alpha");
  EXPECT_EQ(read("name: ${MOEXTRACT_TEST_UNSET:-beta}\n").name, "beta");
  EXPECT_EQ(read("name: ${MOEXTRACT_TEST_EMPTY:-beta}\n").name, "beta");
  EXPECT_EQ(read("name: x${MOEXTRACT_TEST_EMPTY}\n").name, "x");
  EXPECT_EQ(read("name: ${MOEXTRACT_TEST_UNSET:-${MOEXTRACT_TEST_A}/b}.c\n").name, "alpha/b.c");
  EXPECT_EQ(read("name: costs $5, $${PLAIN}\n").name, "costs $5, ${PLAIN}");
  EXPECT_EQ(read("data: {images: \"${MOEXTRACT_TEST_UNSET:-/data}/x\"}\n").data.images, "/data/x");
  EXPECT_EQ(read("data: {lists: [\"${MOEXTRACT_TEST_A}\"]}\n").data.lists.at(0), "alpha");
  EXPECT_EQ(read("data: {threads: \"${MOEXTRACT_TEST_UNSET:-4}\"}\n").data.threads, 4);
}

TEST_F(Reader, IncludeIsReadFirstAndOverridden) {
  write("base/b.yaml", "include: ../deep.yaml\ncluster: {k: 2, rows: 20}\ndata: {images: img}\n");
  write("deep.yaml", "cluster: {k: 1, rows: 10, seed: 9}\n");
  SampleParams p;
  FieldList fields = p.fields();
  std::vector<std::string> used;
  read_yaml(write("a.yaml", "cluster: {k: 3}\ninclude: base/b.yaml\n"), fields, &used);
  EXPECT_EQ(p.cluster.k, 3);
  EXPECT_EQ(p.cluster.rows, 20);
  EXPECT_EQ(p.cluster.seed, 9u);
  EXPECT_EQ(p.data.images, folder_ / "base/img") << "relative to the file that names it";
  EXPECT_EQ(used, (std::vector<std::string>{"cluster.k", "cluster.rows", "cluster.seed", "data.images"}));
  EXPECT_TRUE(fields.find("cluster.seed")->given);
  EXPECT_FALSE(fields.find("name")->given);
}

TEST_F(Reader, TheSameFileTwiceIsNoCircle) {
  write("c.yaml", "name: c\n");
  write("b.yaml", "include: c.yaml\n");
  EXPECT_EQ(read("include: b.yaml\n").name, "c");
}

TEST_F(Reader, RequiredFields) {
  SampleParams p;
  FieldList fields = p.fields();
  Field& k = fields.fields()[1];
  ASSERT_EQ(k.path, "cluster.k");
  k.must_be_given();
  const auto message = [&] {
    try {
      check_required(fields, "configs/a.yaml");
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::config);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_EQ(
      message(),
      "configs/a.yaml: required, but not given: cluster.k (Number of clusters), data.images (Folder of images); add "
      "to the file or to the command line by --set KEY=VALUE");
  apply_setting("cluster.k=8", fields);
  apply_setting("data.images=''", fields);
  EXPECT_EQ(
      message(),
      "configs/a.yaml: required, but not given: data.images (Folder of images); add to the file or to the command "
      "line by --set KEY=VALUE");
  apply_setting("data.images=x", fields);
  EXPECT_EQ(message(), "no error");
}

TEST(FieldList, RefusesWhatOnlyABugCanDo) {
  int value = 0;
  FieldList list;
  Section root = list.root();
  root.add("a", &value, "first");
  EXPECT_THROW(root.add("a", &value, "again"), BugError);
  EXPECT_THROW(root.add("include", &value, "the reader's own"), BugError);
  EXPECT_THROW(root.add("b.c", &value, "two words"), BugError);
  EXPECT_THROW(root.section("a", "a field already"), BugError);
  EXPECT_EQ(list.find("z"), nullptr);
}

}  // namespace
}  // namespace moextract::config
