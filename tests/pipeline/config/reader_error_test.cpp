// What users see when a file is wrong: every message to the letter, with line and column.
#include <gtest/gtest.h>

#include "sample.h"

namespace moextract::config {
namespace fs = std::filesystem;
namespace {

class ReaderErrors : public ConfigFolder {};

TEST_F(ReaderErrors, UnknownKeys) {
  EXPECT_EQ(message("cluster:\n  kk: 3\n"), "a.yaml:2:3: cluster.kk: no such key; did you mean cluster.k?");
  EXPECT_EQ(message("name: x\nclutser:\n  k: 3\n"), "a.yaml:2:1: clutser: no such key; did you mean cluster?");
  EXPECT_EQ(message("cluster:\n  start:\n    tires: 3\n"),
            "a.yaml:3:5: cluster.start.tires: no such key; did you mean cluster.start.tries?");
}

TEST_F(ReaderErrors, KeyInTheWrongSection) {
  EXPECT_EQ(message("data:\n  seed: 3\n"), "a.yaml:2:3: data.seed: no such key; did you mean cluster.seed?");
  EXPECT_EQ(message("threads: 3\n"), "a.yaml:1:1: threads: no such key; did you mean data.threads?");
  EXPECT_EQ(message("clusterseed: 3\n"), "a.yaml:1:1: clusterseed: no such key; did you mean cluster.seed?");
}

TEST_F(ReaderErrors, NothingNear) {
  EXPECT_EQ(message("optimizer: adam\n"), "a.yaml:1:1: optimizer: no such key; the top level has cluster, data, name");
  EXPECT_EQ(message("cluster:\n  start:\n    zzzzz: 1\n"),
            "a.yaml:3:5: cluster.start.zzzzz: no such key; cluster.start has tries, plus_plus");
}

TEST_F(ReaderErrors, DuplicateKeys) {
  EXPECT_EQ(message("cluster:\n  k: 3\n  rows: 4\n  k: 5\n"),
            "a.yaml:4:3: cluster.k: given twice, first in line 2; leave one of them");
  EXPECT_EQ(message("cluster:\n  k: 3\ndata:\n  threads: 2\ncluster:\n  rows: 5\n"),
            "a.yaml:5:1: cluster: given twice, first in line 1; leave one of them");
  EXPECT_EQ(message("cluster.k: 3\ncluster:\n  k: 3\n"),
            "a.yaml:3:3: cluster.k: given twice, first in line 1; leave one of them");
}

TEST_F(ReaderErrors, SectionAndScalarMixedUp) {
  EXPECT_EQ(message("cluster: 3\n"),
            "a.yaml:1:10: cluster: expected a section (keys such as k, indented, on lines of their own), got '3'");
  EXPECT_EQ(message("cluster:\n  - k\n"),
            "a.yaml:2:3: cluster: expected a section (keys such as k, indented, on lines of their own), got a list");
  EXPECT_EQ(message("cluster:\n  k:\n    a: 1\n"),
            "a.yaml:3:5: cluster.k: expected a whole number of at least 1, got a section");
  EXPECT_EQ(message("name: {a: 1}\n"), "a.yaml:1:7: name: expected text, got a section");
}

TEST_F(ReaderErrors, WholeNumbers) {
  EXPECT_EQ(message("cluster:\n  k: many\n"),
            "a.yaml:2:6: cluster.k: expected a whole number of at least 1, got 'many'");
  EXPECT_EQ(message("cluster:\n  k: 1.5\n"), "a.yaml:2:6: cluster.k: expected a whole number of at least 1, got '1.5'");
  EXPECT_EQ(message("cluster:\n  k: 0\n"), "a.yaml:2:6: cluster.k: expected a whole number of at least 1, got '0'");
  EXPECT_EQ(message("cluster:\n  k: [3]\n"),
            "a.yaml:2:6: cluster.k: expected a whole number of at least 1, got a list");
  EXPECT_EQ(message("cluster:\n  k:\n  rows: 1\n"),
            "a.yaml:2:3: cluster.k: expected a whole number of at least 1, got nothing");
  EXPECT_EQ(message("cluster:\n  k: 3000000000\n"),
            "a.yaml:2:6: cluster.k: expected a whole number between 1 and 2147483647, got '3000000000'");
  EXPECT_EQ(message("cluster:\n  rows: 1e13\n"),
            "a.yaml:2:9: cluster.rows: expected a whole number between 1 and 1000000000000, got '1e13'");
  EXPECT_EQ(message("cluster:\n  seed: -1\n"),
            "a.yaml:2:9: cluster.seed: expected a whole number between 0 and 18446744073709551615, got '-1'");
  EXPECT_EQ(message("cluster:\n  seed: x\n"),
            "a.yaml:2:9: cluster.seed: expected a whole number of at least 0, got 'x'");
  EXPECT_EQ(message("cluster:\n  start: {tries: 10}\n"),
            "a.yaml:2:18: cluster.start.tries: expected a whole number of at most 9, got '10'");
  EXPECT_EQ(message("cluster:\n  limit: some\n"),
            "a.yaml:2:10: cluster.limit: expected a whole number of at least 1 or null, got 'some'");
}

TEST_F(ReaderErrors, Numbers) {
  EXPECT_EQ(message("cluster: {tolerance: 1.25}\n"),
            "a.yaml:1:22: cluster.tolerance: expected a number between 0 and 1, got '1.25'");
  EXPECT_EQ(message("cluster: {tolerance: .nan}\n"),
            "a.yaml:1:22: cluster.tolerance: expected a number between 0 and 1, got '.nan'");
  EXPECT_EQ(message("cluster: {target: 64%}\n"),
            "a.yaml:1:19: cluster.target: expected a number between 0 and 1 or null, got '64%'");
}

TEST_F(ReaderErrors, Switches) {
  for (const std::string word : {"on", "True", "1", "y"}) {
    EXPECT_EQ(message("cluster:\n  start:\n    plus_plus: " + word + "\n"),
              "a.yaml:3:16: cluster.start.plus_plus: expected true or false (or yes, no), got '" + word + "'");
  }
}

TEST_F(ReaderErrors, Names) {
  EXPECT_EQ(message("data:\n  storage: seperate\n"),
            "a.yaml:2:12: data.storage: expected one of shared, separate, got 'seperate'; did you mean separate?");
  EXPECT_EQ(message("data:\n  storage: 7\n"), "a.yaml:2:12: data.storage: expected one of shared, separate, got '7'");
  EXPECT_EQ(message("data:\n  storage: [shared]\n"),
            "a.yaml:2:12: data.storage: expected one of shared, separate, got a list");
}

TEST_F(ReaderErrors, Lists) {
  EXPECT_EQ(message("data:\n  layers: [1, two]\n"),
            "a.yaml:2:15: data.layers[1]: expected a whole number of at least 0, got 'two'");
  EXPECT_EQ(message("data:\n  layers:\n    - 1\n    - -1\n"),
            "a.yaml:4:7: data.layers[1]: expected a whole number of at least 0, got '-1'");
  EXPECT_EQ(message("data:\n  layers: {a: 1}\n"),
            "a.yaml:2:11: data.layers: expected a list of whole numbers, got a section");
  EXPECT_EQ(message("data:\n  layers:\n"),
            "a.yaml:2:3: data.layers: expected a list of whole numbers, got nothing (write [] for none)");
  EXPECT_EQ(message("data:\n  lists: [a, [b]]\n"), "a.yaml:2:14: data.lists[1]: expected text, got a list");
  EXPECT_EQ(message("data:\n  weights: [0.5, -1]\n"),
            "a.yaml:2:18: data.weights[1]: expected a number of at least 0, got '-1'");
  EXPECT_EQ(message("data:\n  mean: [0.1, 0.2]\n"),
            "a.yaml:2:9: data.mean: expected one number or a list of three, got a list of 2");
  EXPECT_EQ(message("data:\n  mean: [0.1, 0.2, 3]\n"),
            "a.yaml:2:20: data.mean[2]: expected a number between 0 and 1, got '3'");
  EXPECT_EQ(message("data:\n  mean:\n"), "a.yaml:2:3: data.mean: expected one number or a list of three, got nothing");
}

TEST_F(ReaderErrors, TextAndPaths) {
  EXPECT_EQ(message("name:\n"), "a.yaml:1:1: name: expected text, got nothing (write \"\" for an empty text)");
  EXPECT_EQ(message("data:\n  images: [x]\n"), "a.yaml:2:11: data.images: expected a path, got a list");
  EXPECT_EQ(message("cluster:\n  k: " + std::string(70, 'x') + "\n"),
            "a.yaml:2:6: cluster.k: expected a whole number of at least 1, got '" + std::string(60, 'x') + "...'");
}

TEST_F(ReaderErrors, Variables) {
  ::unsetenv("MOEXTRACT_TEST_UNSET");
  EXPECT_EQ(message("data:\n  images: ${MOEXTRACT_TEST_UNSET}/x\n"),
            "a.yaml:2:11: data.images: the environment variable MOEXTRACT_TEST_UNSET is not set; export it, or write "
            "${MOEXTRACT_TEST_UNSET:-default}");
  EXPECT_EQ(message("name: x${HOME\n"), "a.yaml:1:7: name: '${' without its '}'; write $${ for a plain ${");
  EXPECT_EQ(message("name: ${HOME-x}\n"), "a.yaml:1:7: name: '${HOME-x}' is not of the form ${VAR} or ${VAR:-default}");
  EXPECT_EQ(message("data:\n  lists: [a, \"${MOEXTRACT_TEST_UNSET}\"]\n"),
            "a.yaml:2:14: data.lists[1]: the environment variable MOEXTRACT_TEST_UNSET is not set; export it, or write "
            "${MOEXTRACT_TEST_UNSET:-default}");
}

TEST_F(ReaderErrors, Include) {
  write("b.yaml", "include: a.yaml\n");
  EXPECT_EQ(message("include: b.yaml\n"), "b.yaml:1:10: include: files include each other: a.yaml -> b.yaml -> a.yaml");
  EXPECT_EQ(message("name: x\ninclude: a.yaml\n"), "a.yaml:2:10: include: files include each other: a.yaml -> a.yaml");
  EXPECT_EQ(message("include: none.yaml\n"), "a.yaml:1:10: include: no such file: none.yaml");
  EXPECT_EQ(message("include: [b.yaml]\n"), "a.yaml:1:10: include: expected a file name, got a list");
  EXPECT_EQ(message("include:\n"), "a.yaml:1:1: include: expected a file name, got nothing");
  EXPECT_EQ(message("cluster:\n  include: b.yaml\n"),
            "a.yaml:2:3: cluster.include: no such key; cluster has start, k, rows, seed, tolerance, target, limit");
  write("c.yaml", "name: x\ncluster:\n  k: -3\n");
  EXPECT_EQ(message("include: c.yaml\n"), "c.yaml:3:6: cluster.k: expected a whole number of at least 1, got '-3'");
}

TEST_F(ReaderErrors, FilesThatCannotBeRead) {
  write("quickstart.yaml", "name: x\n");
  EXPECT_EQ(message_of_file(folder_ / "quikstart.yaml"), "quikstart.yaml: no such file; did you mean quickstart.yaml?");
  EXPECT_EQ(message_of_file(folder_ / "else.yaml"), "else.yaml: no such file");
  fs::create_directories(folder_ / "sub");
  EXPECT_EQ(message_of_file(folder_ / "sub"), "sub: is a folder; give the YAML file itself");
  EXPECT_EQ(message_of_file("/dev/zero"), "/dev/zero: is a device, which may have no end; give a YAML file");
}

TEST_F(ReaderErrors, FilesThatAreNoConfiguration) {
  EXPECT_EQ(message(""), "a.yaml: holds no settings");
  EXPECT_EQ(message("# only a comment\n"), "a.yaml: holds no settings");
  EXPECT_EQ(message("---\n"), "a.yaml: holds no settings");
  EXPECT_EQ(message("- a\n- b\n"), "a.yaml:1:1: expected keys and values (key: value), got a list");
  EXPECT_EQ(message("just text\n"), "a.yaml:1:1: expected keys and values (key: value), got text");
  EXPECT_EQ(message("name: a\n---\nname: b\n"), "a.yaml: holds 2 YAML documents; leave one and no other '---'");
  // Texts that yaml-cpp reads without an end.
  EXPECT_EQ(message(",== "), "a.yaml:1:1: not valid YAML: text that belongs to no key or list");
  EXPECT_EQ(message("--- {name: a}\n, b\n"), "a.yaml:2:1: not valid YAML: text that belongs to no key or list");
  EXPECT_EQ(message("? [a, b]\n: 3\n"), "a.yaml:1:3: expected the name of a key, got a list");
}

TEST_F(ReaderErrors, Encoding) {
  EXPECT_EQ(message("name: x\ndata:\n  images: B\xe4r\n"),
            "a.yaml:3:12: byte 0xe4 is not UTF-8 text; save the file as UTF-8");
  EXPECT_EQ(message("\xff\xfen\0a\0"), "a.yaml:1:1: byte 0xff is not UTF-8 text; save the file as UTF-8");
  EXPECT_EQ(message("name: x\n\x04\ncluster: {kk: 1}\n"),
            "a.yaml:2:1: byte 0x04 is not UTF-8 text; save the file as UTF-8");
  EXPECT_EQ(message("name: \xc0\xaf\n"), "a.yaml:1:7: byte 0xc0 is not UTF-8 text; save the file as UTF-8");
  EXPECT_EQ(message("name: \xe2\x82\n"), "a.yaml:1:7: byte 0xe2 is not UTF-8 text; save the file as UTF-8");
  EXPECT_EQ(read("name: B\xc3\xa4r \xe2\x82\xac \xf0\x9f\x98\x80\n").name, "B\xc3\xa4r \xe2\x82\xac \xf0\x9f\x98\x80");
}

TEST_F(ReaderErrors, Syntax) {
  EXPECT_EQ(message("name: a: b\n"), "a.yaml:1:8: not valid YAML: illegal map value; quote a value that holds ': '");
  EXPECT_EQ(message("data:\n  lists: [a, b\nname: x\n"),
            "a.yaml:3:5: not valid YAML: end of sequence flow not found; a '[' before this place is not closed");
  EXPECT_EQ(message("data: {lists: a\nname: x\n"),
            "a.yaml:2:5: not valid YAML: end of map flow not found; a '{' before this place is not closed");
  EXPECT_EQ(message("cluster:\n\tk: 3\n"),
            "a.yaml:2:3: not valid YAML: illegal map value; indent with spaces instead of tabs");
  // yaml-cpp 0.8 adds the anchor's name.
  EXPECT_TRUE(
      message("name: *nowhere\n").starts_with("a.yaml:1:7: not valid YAML: the referenced anchor is not defined"));
  EXPECT_EQ(message("cluster:\n  k: 3\n rows: 4\n"),
            "a.yaml:3:2: not valid YAML: end of map not found; keys of one section stand in the same column");
  const std::string deep = message("name: x\nlists: " + std::string(5000, '['));
  EXPECT_NE(deep.find("not valid YAML: bad file; lists or sections are nested too deeply"), std::string::npos) << deep;
}

TEST_F(ReaderErrors, QuoteThatIsNeverClosed) {
  EXPECT_EQ(message("name: \"open\ncluster:\n  k: 3\n"),
            "a.yaml:3:7: not valid YAML: illegal EOF in scalar; a quote is not closed");
  EXPECT_EQ(message("name: 'open"), "a.yaml:1:12: not valid YAML: illegal EOF in scalar; a quote is not closed");
  EXPECT_EQ(read("name: \"closed\"").name, "closed");
  EXPECT_EQ(read("name: |\n  line\n").name, "line\n");
}

}  // namespace
}  // namespace moextract::config
