// A folder for each test, and programs in it that stand in for Slurm's.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "core/error.h"

namespace moextract::slurm {
namespace fs = std::filesystem;

class SlurmTest : public testing::Test {
 protected:
  SlurmTest() : path_(std::getenv("PATH")) {
    std::string pattern = (fs::temp_directory_path() / "moextract-slurm-XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
  }
  ~SlurmTest() override {
    ::setenv("PATH", path_.c_str(), 1);
    std::error_code ignored;
    fs::remove_all(root_, ignored);
  }
  fs::path write(const std::string& name, const std::string& text) const {
    std::ofstream(root_ / name) << text;
    return root_ / name;
  }
  /// A program of this name, found before any other; `script` is of /bin/sh.
  void stand_in(const std::string& name, const std::string& script) {
    fs::permissions(write(name, "#!/bin/sh\n" + script + "\n"), fs::perms::all);
    ::setenv("PATH", (root_.string() + ":" + path_).c_str(), 1);
  }
  /// Only stand-ins are found.
  void hide_others() { ::setenv("PATH", root_.c_str(), 1); }

  fs::path root_;

 private:
  std::string path_;
};

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

}  // namespace moextract::slurm
