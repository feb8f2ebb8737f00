// A small configuration to sweep over, and a folder for each test.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "config/field_list.h"
#include "core/error.h"

namespace moextract::sweep {
namespace fs = std::filesystem;

struct SampleConfig {
  std::int64_t k = 8, seed = 1, block = 64;
  double rate = 0.1;
  std::optional<double> target;
  bool spherical = false;
  std::string tap = "h";
  fs::path weights, folder;

  config::FieldList fields() {
    config::FieldList list;
    config::Section root = list.root();
    config::Section run = root.section("run", "");
    run.add("folder", &folder, "").runtime_only().output();
    config::Section cluster = root.section("cluster", "");
    cluster.add("k", &k, "").at_least(1);
    cluster.add("seed", &seed, "");
    cluster.add("block", &block, "").at_least(1).runtime_only();
    cluster.add("spherical", &spherical, "");
    cluster.add("tap", &tap, "");
    config::Section tune = root.section("tune", "");
    tune.add("rate", &rate, "").at_least(0).at_most(1);
    tune.add("target", &target, "").at_least(0);
    root.section("model", "").add("weights", &weights, "").runtime_only();
    return list;
  }
};

class SweepTest : public testing::Test {
 protected:
  SweepTest() {
    std::string pattern = (fs::temp_directory_path() / "moextract-sweep-XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
  }
  ~SweepTest() override {
    std::error_code ignored;
    fs::remove_all(root_, ignored);
  }
  fs::path write(const std::string& name, const std::string& text) const {
    std::ofstream(root_ / name) << text;
    return root_ / name;
  }

  fs::path root_;
};

/// The message of the UserError that `work` throws.
inline std::string message_of(const std::function<void()>& work, ExitCode code) {
  try {
    work();
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace moextract::sweep
