// A folder for one test, specs and stages to fill it, and a log that can be read.
#pragma once

#include <gtest/gtest.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/ostream_sink.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <sstream>
#include <string>

#include "core/file.h"
#include "run/artefact.h"

namespace moextract::run {

namespace fs = std::filesystem;

class RunTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::temp_directory_path() / ("moextract-run-" + std::to_string(std::random_device{}()));
    fs::create_directories(root_);
  }
  void TearDown() override { fs::remove_all(root_); }

  static ArtefactSpec spec(const std::string& stage = "collect", int k = 8) {
    return {stage, 1, {{"cluster", {{"k", k}}}, {"seed", 1}}, {{"model", "abc"}}};
  }
  /// A finished artefact of two files.
  static fs::path make(const ArtefactStore& store, const ArtefactSpec& spec) {
    const fs::path folder = store.begin(spec);
    write_file_atomically(folder / "a.txt", "first");
    fs::create_directories(folder / "sub");
    write_file_atomically(folder / "sub" / "b.txt", "second");
    store.finish(spec, {.program_version = "test", .hosts = {"here"}, .seconds = 2.5, .counts = {{"rows", 7}}});
    return folder;
  }
  static void write(const fs::path& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

  std::shared_ptr<spdlog::logger> log() {
    return std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_mt>(said_, true));
  }

  fs::path root_;
  std::ostringstream said_;
};

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace moextract::run
