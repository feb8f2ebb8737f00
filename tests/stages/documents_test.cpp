// Pages that are made from the code, and configurations that stand in the tree, are true.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "config/render.h"
#include "core/file.h"
#include "stages/run_config.h"
#include "sweep/sweep_file.h"

namespace moextract::stages::test {
namespace {

const std::filesystem::path kSource = MOEXTRACT_SOURCE_DIR;

TEST(Documents, TheReferencePageIsThatOfTheFieldList) {
  RunConfig config;
  EXPECT_EQ(read_text_file(kSource / "docs/configuration.md"), config::reference_page(field_list(config)))
      << "make it again: moextract reference-page > docs/configuration.md";
}

TEST(Documents, EveryConfigurationCanBeRead) {
  for (const char* variable : {"MOEXTRACT_TEST_DATA", "IMAGENET", "IMAGENET_ROOT", "IMAGENET_DIR"})
    setenv(variable, "/nowhere", 0);
  int read = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kSource / "configs")) {
    if (entry.is_directory()) continue;
    RunConfig config;
    try {
      read_config(entry.path(), {}, config);
    } catch (const std::exception& error) {
      // Configurations that take a path from the environment cannot be read without it; anything else is a mistake.
      EXPECT_NE(std::string(error.what()).find("environment variable"), std::string::npos) << error.what();
    }
    ++read;
  }
  EXPECT_GE(read, 4);
}

TEST(Documents, TheSweepOfThePageCanBeRead) {
  const std::string page = read_text_file(kSource / "docs/sweeps.md");
  const std::size_t from = page.find("```yaml\n") + 8;
  const std::filesystem::path file = std::filesystem::temp_directory_path() / "moextract-page-sweep.yaml";
  write_file_atomically(file, page.substr(from, page.find("```", from) - from));
  RunConfig config;
  config::FieldList fields = field_list(config);
  const sweep::SweepFile sweep = sweep::read_sweep_file(file, fields);
  std::filesystem::remove(file);
  EXPECT_EQ(sweep::expand(sweep).size(), 3u * 3 * 2 * 20);
  EXPECT_EQ(sweep.constraints.size(), 1u);
}

TEST(Documents, EverySweepCanBeReadAndHasABase) {
  int read = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kSource / "configs/sweeps")) {
    RunConfig config;
    config::FieldList fields = field_list(config);
    const sweep::SweepFile file = sweep::read_sweep_file(entry.path(), fields);
    EXPECT_TRUE(std::filesystem::exists(file.base)) << entry.path();
    EXPECT_FALSE(sweep::expand(file).empty()) << entry.path();
    ++read;
  }
  EXPECT_GE(read, 5);
}

}  // namespace
}  // namespace moextract::stages::test
