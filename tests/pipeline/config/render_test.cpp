#include "config/render.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "sample.h"

namespace moextract::config {
namespace {

class Render : public ConfigFolder {};

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

/// Values that are hard to write: nothing is a default.
SampleParams hard_values() {
  SampleParams p;
  p.name = "a: \"b\" # c\\ \t\n${X} $${Y} \xc3\xa4";
  p.cluster.k = 2147483647;
  p.cluster.rows = 999999999999;
  p.cluster.seed = 18446744073709551615ull;
  p.cluster.tolerance = 0.1 + 0.2;
  p.cluster.target = 1.0 / 3;
  p.cluster.limit = std::nullopt;
  p.cluster.start = {-7, false};
  p.data.images = "/data/with space/null";
  p.data.cache = "null";
  p.data.mean = {5e-324, 1e-05, 1};
  p.data.lists = {"", "null", "1e5", "yes", "[x]", "plain/path.txt", "- a", "{", "a, b"};
  p.data.layers = {0, 9223372036854775807};
  p.data.weights = {};
  p.data.storage = Storage::separate;
  p.data.threads = 3;
  return p;
}

TEST_F(Render, YamlRoundTrip) {
  SampleParams from = hard_values();
  FieldList from_fields = from.fields();
  const std::string text = to_yaml(from_fields);
  SampleParams to;
  FieldList to_fields = to.fields();
  std::vector<std::string> used;
  read_yaml(write("sub/a.yaml", text), to_fields, &used);
  EXPECT_EQ(used.size(), from_fields.fields().size()) << "every field is written";
  EXPECT_EQ(to.name, from.name);
  EXPECT_EQ(to.cluster.k, from.cluster.k);
  EXPECT_EQ(to.cluster.rows, from.cluster.rows);
  EXPECT_EQ(to.cluster.seed, from.cluster.seed);
  EXPECT_EQ(to.cluster.tolerance, from.cluster.tolerance);
  EXPECT_EQ(to.cluster.target, from.cluster.target);
  EXPECT_EQ(to.cluster.limit, from.cluster.limit);
  EXPECT_EQ(to.cluster.start.tries, from.cluster.start.tries);
  EXPECT_EQ(to.cluster.start.plus_plus, from.cluster.start.plus_plus);
  EXPECT_EQ(to.data.images, from.data.images);
  EXPECT_EQ(to.data.cache, from.data.cache);
  EXPECT_EQ(to.data.mean, from.data.mean);
  EXPECT_EQ(to.data.lists, from.data.lists);
  EXPECT_EQ(to.data.layers, from.data.layers);
  EXPECT_EQ(to.data.weights, from.data.weights);
  EXPECT_EQ(to.data.storage, from.data.storage);
  EXPECT_EQ(to.data.threads, from.data.threads);
  EXPECT_EQ(to_yaml(to_fields), text);
}

TEST_F(Render, YamlNamesTheSameInputFromAnyFolder) {
  SampleParams from;
  from.data.images = "images";
  FieldList from_fields = from.fields();
  SampleParams to;
  FieldList to_fields = to.fields();
  read_yaml(write("sub/a.yaml", to_yaml(from_fields)), to_fields);
  EXPECT_EQ(to.data.images, std::filesystem::current_path() / "images");
  EXPECT_EQ(to.data.cache, "cache") << "output paths stay relative to the working folder";
}

TEST_F(Render, YamlText) {
  struct {
    int tries = 2;
    int k = 1;
    double rate = 0.5;
  } p;
  FieldList list;
  Section root = list.root();
  Section a = root.section("a", "About a");
  a.section("inner", "Inside").add("rate", &p.rate, "A rate").at_least(0).in("1/s");
  a.add("tries", &p.tries, "Draws");
  root.add("k", &p.k, "Clusters").at_least(1);
  EXPECT_EQ(to_yaml(list), R"(# Clusters (whole number, at least 1)
k: 1

# About a
a:
  # Draws (whole number)
  tries: 2
  # Inside
  inner:
    # A rate (number, at least 0, 1/s)
    rate: 0.5
)");
  EXPECT_EQ(to_yaml(FieldList()), "{}\n");
}

TEST_F(Render, ValuesAsText) {
  SampleParams p = hard_values();
  FieldList fields = p.fields();
  const auto text = [&](const char* path) { return to_yaml_text(*fields.find(path)); };
  EXPECT_EQ(text("cluster.k"), "2147483647");
  EXPECT_EQ(text("cluster.tolerance"), "0.30000000000000004");
  EXPECT_EQ(text("cluster.limit"), "null");
  EXPECT_EQ(text("cluster.start.plus_plus"), "false");
  EXPECT_EQ(text("data.mean"), "[5e-324, 1e-05, 1]");
  EXPECT_EQ(text("data.weights"), "[]");
  EXPECT_EQ(text("data.cache"), "\"null\"");
  EXPECT_EQ(text("data.storage"), "separate");
  EXPECT_EQ(text("name"), "\"a: \\\"b\\\" # c\\\\ \\t\\n$${X} $$${Y} \xc3\xa4\"");
}

TEST_F(Render, ReferencePageHasEveryField) {
  SampleParams p;
  FieldList fields = p.fields();
  const std::string page = reference_page(fields);
  for (const Field& field : fields.fields()) {
    EXPECT_EQ(count(page, "\n| `" + field.path + "`"), 1u) << field.path;
    EXPECT_NE(page.find(field.doc), std::string::npos) << field.path;
  }
  for (const SectionDoc& section : fields.sections()) {
    EXPECT_EQ(count(page, "\n## `" + section.path + "`\n\n" + section.doc + "\n"), 1u) << section.path;
  }
  EXPECT_NE(page.find("\n| `cluster.k` | whole number | `8` | at least 1 | Number of clusters |\n"), std::string::npos);
  EXPECT_NE(page.find("\n| `cluster.rows` | whole number | `100` | 1 to 1000000000000, rows | Rows in memory |\n"),
            std::string::npos);
  EXPECT_NE(page.find("\n| `data.images` | path | required |  | Folder of images |\n"), std::string::npos);
  EXPECT_NE(page.find("\n| `data.threads` † | whole number | `1` | at least 1 | Decoding threads |\n"),
            std::string::npos);
  EXPECT_EQ(count(page, "` † |"), 2u) << "cache and threads";
  EXPECT_NE(page.find("\n`data.storage` is one of\n\n- `shared`: One copy of a neuron | many users\n- `separate`: "),
            std::string::npos);
}

TEST_F(Render, ReferencePageTablesHaveFiveColumns) {
  SampleParams p;
  p.name = "a|b";
  FieldList fields = p.fields();
  const std::string page = reference_page(fields);
  EXPECT_NE(page.find("`\"a\\|b\"`"), std::string::npos);
  std::size_t rows = 0;
  for (std::size_t at = page.find("\n|"); at != std::string::npos; at = page.find("\n|", at + 1)) {
    const std::string row = page.substr(at + 1, page.find('\n', at + 1) - at - 1);
    EXPECT_EQ(count(row, "|") - count(row, "\\|"), 6u) << row;
    ++rows;
  }
  EXPECT_EQ(rows, fields.fields().size() + 1 + 2 * 4) << "fields, include, heads of four tables";
}

TEST_F(Render, Help) {
  SampleParams p;
  FieldList fields = p.fields();
  const std::string all = help_text(fields);
  for (const Field& field : fields.fields()) EXPECT_EQ(count(all, "  " + field.path + " ("), 1u) << field.path;
  EXPECT_EQ(help_text(fields, "cluster.k"), "  cluster.k (whole number, at least 1) = 8\n      Number of clusters\n");
  EXPECT_EQ(help_text(fields, "data.images"), "  data.images (path) required\n      Folder of images\n");
  EXPECT_EQ(help_text(fields, "data.storage"),
            "  data.storage (one of shared, separate) = shared\n      How experts are stored\n"
            "        shared: One copy of a neuron | many users\n        separate: A copy for each expert\n");
  EXPECT_EQ(count(help_text(fields, "cluster"), "\n  cluster."), 7u) << "and one on the first line";
  EXPECT_EQ(help_text(fields, "cluster."), help_text(fields, "cluster"));
  EXPECT_EQ(help_text(fields, "clus"), "");
}

TEST_F(Render, HelpBreaksLines) {
  int value = 0;
  FieldList fields;
  fields.root().add("a", &value, std::string(40, 'x') + " " + std::string(60, 'y') + " z");
  EXPECT_EQ(help_text(fields),
            "  a (whole number) = 0\n      " + std::string(40, 'x') + "\n      " + std::string(60, 'y') + " z\n");
}

TEST_F(Render, Json) {
  SampleParams p;
  p.cluster.seed = 18446744073709551615ull;
  p.data.images = "x/y";
  FieldList fields = p.fields();
  const nlohmann::json expected = nlohmann::json::parse(R"({
    "name": "run",
    "cluster": {"k": 8, "rows": 100, "seed": 18446744073709551615, "tolerance": 0.0001, "target": null, "limit": 5,
                "start": {"tries": 1, "plus_plus": true}},
    "data": {"images": "x/y", "cache": "cache", "mean": [0.5, 0.5, 0.5], "lists": ["a"], "layers": [],
             "weights": [0.25], "storage": "shared", "threads": 1}})");
  EXPECT_EQ(to_json(fields, false), expected);

  nlohmann::json results = expected;
  results["data"].erase("cache");
  results["data"].erase("threads");
  EXPECT_EQ(to_json(fields, true), results);

  nlohmann::json start;
  start["cluster"]["start"] = expected["cluster"]["start"];
  EXPECT_EQ(to_json(fields, true, "cluster.start"), start);
  EXPECT_EQ(to_json(fields, true, "nothing"), nlohmann::json::object());
}

}  // namespace
}  // namespace moextract::config
