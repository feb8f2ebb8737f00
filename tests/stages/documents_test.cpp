// Pages that are made from the code, and configurations that stand in the tree, are true.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "config/render.h"
#include "core/file.h"
#include "stages/run_config.h"

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

}  // namespace
}  // namespace moextract::stages::test
