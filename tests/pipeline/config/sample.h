// A params struct with a field of every type, and a folder for files to read.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "config/field_list.h"
#include "config/reader.h"
#include "core/error.h"

namespace moextract::config {

enum class Storage { shared, separate };

struct SampleParams {
  std::string name = "run";
  struct Cluster {
    int k = 8;
    std::int64_t rows = 100;
    std::uint64_t seed = 1;
    double tolerance = 1e-4;
    std::optional<double> target;
    std::optional<std::int64_t> limit = 5;
    struct Start {
      int tries = 1;
      bool plus_plus = true;
    } start;
  } cluster;
  struct Data {
    std::filesystem::path images;
    std::filesystem::path cache = "cache";
    std::array<double, 3> mean = {0.5, 0.5, 0.5};
    std::vector<std::string> lists = {"a"};
    std::vector<std::int64_t> layers;
    std::vector<double> weights = {0.25};
    Storage storage = Storage::shared;
    int threads = 1;
  } data;

  FieldList fields() {
    FieldList list;
    Section root = list.root();
    root.add("name", &name, "Name of the run");
    Section c = root.section("cluster", "How rows are grouped");
    c.add("k", &cluster.k, "Number of clusters").at_least(1);
    c.add("rows", &cluster.rows, "Rows in memory").at_least(1).at_most(1e12).in("rows");
    c.add("seed", &cluster.seed, "Seed of the draws");
    c.add("tolerance", &cluster.tolerance, "Relative change that ends the iterations").at_least(0).at_most(1);
    c.add("target", &cluster.target, "Share of MACs to reach").at_least(0).at_most(1);
    c.add("limit", &cluster.limit, "Most iterations").at_least(1);
    Section s = c.section("start", "First centres");
    s.add("tries", &cluster.start.tries, "Number of draws").at_most(9);
    s.add("plus_plus", &cluster.start.plus_plus, "Draw by distance");
    Section d = root.section("data", "Images");
    d.add("images", &data.images, "Folder of images").must_be_given();
    d.add("cache", &data.cache, "Folder for copies").output().runtime_only();
    d.add("mean", &data.mean, "Mean of each channel").at_least(0).at_most(1);
    d.add("lists", &data.lists, "Lists of images");
    d.add("layers", &data.layers, "Layers to cut").at_least(0);
    d.add("weights", &data.weights, "Weights of lists").at_least(0);
    d.add_enum("storage", data.storage,
               {{"shared", Storage::shared, "One copy of a neuron | many users"},
                {"separate", Storage::separate, "A copy for each expert"}},
               "How experts are stored");
    d.add("threads", &data.threads, "Decoding threads").at_least(1).runtime_only();
    return list;
  }
};

/// A fresh folder, removed at the end.
class ConfigFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::temp_directory_path() /
              (std::string("moextract_config_") + info->name() + "_" + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path write(const std::string& name, const std::string& text) const {
    const std::filesystem::path path = folder_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }
  SampleParams read(const std::string& text) const {
    SampleParams params;
    FieldList fields = params.fields();
    read_yaml(write("a.yaml", text), fields);
    return params;
  }
  /// The message that reading gives, without the folder's name.
  std::string message_of_file(const std::filesystem::path& file) const {
    SampleParams params;
    FieldList fields = params.fields();
    try {
      read_yaml(file, fields);
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::config);
      return without_folder(error.what());
    }
    return "no error";
  }
  std::string message(const std::string& text) const { return message_of_file(write("a.yaml", text)); }
  std::string without_folder(std::string text) const {
    const std::string prefix = folder_.string() + "/";
    for (std::size_t at; (at = text.find(prefix)) != std::string::npos;) text.erase(at, prefix.size());
    return text;
  }

  std::filesystem::path folder_;
};

}  // namespace moextract::config
