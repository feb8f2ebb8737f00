// Atomic files: whole, or not there, or the old one.
#include "core/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <stdexcept>

#include "core/error.h"

namespace moextract {
namespace {

namespace fs = std::filesystem;

class AtomicFile : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "moextract-core-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  std::size_t files() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }
  ExitCode code_of(const std::function<void()>& action, const std::string& part) const {
    try {
      action();
    } catch (const UserError& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << part << " is not in: " << error.what();
      return error.code();
    }
    return ExitCode::ok;
  }
  fs::path folder_;
};

TEST_F(AtomicFile, RoundTripOfAnyBytes) {
  std::string content(300000, '\0');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 7 + (i >> 8));
  write_file_atomically(folder_ / "a", content);
  EXPECT_EQ(read_text_file(folder_ / "a"), content);
  write_file_atomically(folder_ / "a", std::string_view());
  EXPECT_EQ(read_text_file(folder_ / "a"), "");
  EXPECT_EQ(files(), 1u);
}

TEST_F(AtomicFile, ReplacesTheOldFile) {
  write_file_atomically(folder_ / "a", "a long first text");
  write_file_atomically(folder_ / "a", "short");
  EXPECT_EQ(read_text_file(folder_ / "a"), "short");
}

TEST_F(AtomicFile, AFailingWriterLeavesTheOldFileAndNothingElse) {
  write_file_atomically(folder_ / "a", "old");
  const auto write = [&](const fs::path& temporary) {
    EXPECT_EQ(temporary.parent_path(), folder_);  // a rename across file systems would not be atomic
    EXPECT_TRUE(is_temporary_name(temporary));
    std::ofstream(temporary) << "half of the new";
    EXPECT_EQ(read_text_file(folder_ / "a"), "old");
    throw std::runtime_error("the disk is on fire");
  };
  EXPECT_THROW(write_file_atomically(folder_ / "a", write), std::runtime_error);
  EXPECT_EQ(read_text_file(folder_ / "a"), "old");
  EXPECT_EQ(files(), 1u);
}

TEST_F(AtomicFile, AWriterThatWritesNothingIsAnError) {
  write_file_atomically(folder_ / "a", "old");
  EXPECT_EQ(code_of([&] { write_file_atomically(folder_ / "a", [](const fs::path&) {}); }, "No such file"),
            ExitCode::storage);
  EXPECT_EQ(read_text_file(folder_ / "a"), "old");
}

TEST_F(AtomicFile, ErrorsNameThePathAndTheReason) {
  const fs::path nowhere = folder_ / "missing" / "a";
  EXPECT_EQ(code_of([&] { write_file_atomically(nowhere, "x"); }, nowhere.string()), ExitCode::storage);
  EXPECT_EQ(code_of([&] { write_file_atomically(nowhere, "x"); }, "No such file or directory"), ExitCode::storage);
  EXPECT_EQ(code_of([&] { read_text_file(nowhere); }, nowhere.string()), ExitCode::input);
  // A folder stands where the file should: the rename fails, and the temporary file is swept away.
  fs::create_directory(folder_ / "taken");
  EXPECT_EQ(code_of([&] { write_file_atomically(folder_ / "taken", "x"); }, "rename"), ExitCode::storage);
  EXPECT_EQ(files(), 1u);
}

TEST_F(AtomicFile, AFullDiskIsToldAsSuch) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "this system has no /dev/full";
  // A temporary name that leads to /dev/full: every write to it fails with ENOSPC.
  std::string temporary;
  write_file_atomically(folder_ / "a", [&](const fs::path& path) {
    temporary = path.string();
    std::ofstream(path) << "old";
  });
  fs::create_symlink("/dev/full", temporary);
  EXPECT_EQ(code_of([&] { write_file_atomically(folder_ / "a", "new"); }, "No space left on device"),
            ExitCode::storage);
  EXPECT_EQ(read_text_file(folder_ / "a"), "old");
  EXPECT_FALSE(fs::exists(fs::symlink_status(temporary)));
}

TEST_F(AtomicFile, MakesFoldersWithTheirParents) {
  make_folder(folder_ / "a" / "b" / "c");
  make_folder(folder_ / "a" / "b" / "c");
  EXPECT_TRUE(fs::is_directory(folder_ / "a" / "b" / "c"));
  write_file_atomically(folder_ / "file", "x");
  EXPECT_EQ(code_of([&] { make_folder(folder_ / "file" / "below"); }, (folder_ / "file").string()), ExitCode::storage);
}

TEST(TemporaryName, TellsFinishedFilesApart) {
  EXPECT_TRUE(is_temporary_name("run/weights.safetensors.part.node1.4711"));
  EXPECT_FALSE(is_temporary_name("run/weights.safetensors"));
  EXPECT_FALSE(is_temporary_name("run.part.x/weights.safetensors"));
}

}  // namespace
}  // namespace moextract
