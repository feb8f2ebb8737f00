// Pages that are made from the code, and configurations that stand in the tree, are true.
#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <regex>
#include <set>

#include "config/render.h"
#include "core/file.h"
#include "slurm/site.h"
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

std::vector<std::filesystem::path> pages() {
  std::vector<std::filesystem::path> found{kSource / "README.md", kSource / "CHANGELOG.md",
                                           kSource / "CONTRIBUTING.md"};
  for (const auto& entry : std::filesystem::recursive_directory_iterator(kSource / "docs")) {
    if (entry.path().extension() == ".md") found.push_back(entry.path());
  }
  return found;
}

TEST(Documents, EveryKeyThatAPageNamesExists) {
  RunConfig config;
  const config::FieldList fields = field_list(config);
  std::set<std::string> known, sections;
  for (const config::Field& field : fields.fields()) known.insert(field.path);
  for (const config::SectionDoc& section : fields.sections()) {
    known.insert(section.path);
    sections.insert(section.path.substr(0, section.path.find('.')));
  }
  // In `backticks`: words joined by dots, the first of which is a section; files are none.
  const std::regex code("`([^`\n]+)`"), key("(^|[ =\\[(])([a-z_]+(\\.[a-z0-9_]+)+)(?=$|[ =:,)\\]])");
  const std::set<std::string> endings{"json", "h", "cpp", "safetensors", "html", "sbatch", "yaml", "csv", "log"};
  int checked = 0;
  for (const std::filesystem::path& page : pages()) {
    const std::string text = read_text_file(page);
    for (std::sregex_iterator span(text.begin(), text.end(), code), end; span != end; ++span) {
      const std::string words = (*span)[1];
      for (std::sregex_iterator word(words.begin(), words.end(), key); word != end; ++word) {
        const std::string name = (*word)[2];
        const std::string section = name.substr(0, name.find('.'));
        if (!sections.contains(section)) continue;
        if (section == "router" && page.filename() == "formats.md") continue;  // tensors have that prefix, too
        if (endings.contains(name.substr(name.rfind('.') + 1))) continue;
        EXPECT_TRUE(known.contains(name)) << page << " names the key " << name;
        ++checked;
      }
    }
  }
  EXPECT_GE(checked, 200) << "the reference page alone has about as many";
}

TEST(Documents, EveryKeyThatACommandSetsExists) {
  RunConfig config;
  const config::FieldList fields = field_list(config);
  std::set<std::string> known;
  for (const config::Field& field : fields.fields()) known.insert(field.path);
  std::vector<std::filesystem::path> texts = pages();
  for (const char* folder : {"configs", "scripts", "slurm", "bench"}) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(kSource / folder)) {
      const std::string ending = entry.path().extension();
      if (ending == ".yaml" || ending == ".sh" || ending == ".sbatch") texts.push_back(entry.path());
    }
  }
  const std::regex setting("--set +\"?([a-z_]+(\\.[a-z0-9_]+)*)=");
  int checked = 0;
  for (const std::filesystem::path& page : texts) {
    const std::string text = read_text_file(page);
    for (std::sregex_iterator match(text.begin(), text.end(), setting), end; match != end; ++match) {
      const std::string key = (*match)[1];
      if (key == "key") continue;  // `--set key=value`
      EXPECT_TRUE(known.contains(key)) << page << " sets the key " << key;
      ++checked;
    }
  }
  EXPECT_GE(checked, 20);
}

/// The keys of a YAML text, joined by dots.
void add_keys(const YAML::Node& node, const std::string& prefix, std::vector<std::string>& keys) {
  if (!node.IsMap()) {
    keys.push_back(prefix);
    return;
  }
  for (const auto& entry : node) {
    const std::string name = entry.first.as<std::string>();
    add_keys(entry.second, prefix.empty() ? name : prefix + "." + name, keys);
  }
}

TEST(Documents, EveryKeyOfAPagesConfigurationExists) {
  RunConfig config;
  const config::FieldList fields = field_list(config);
  std::set<std::string> known{"include"}, sections;
  for (const config::Field& field : fields.fields()) known.insert(field.path);
  for (const config::SectionDoc& section : fields.sections()) sections.insert(section.path);
  int checked = 0;
  const std::regex block("```yaml\n([^`]*)```");
  for (const std::filesystem::path& page : pages()) {
    const std::string text = read_text_file(page);
    for (std::sregex_iterator match(text.begin(), text.end(), block), end; match != end; ++match) {
      const YAML::Node node = YAML::Load((*match)[1]);
      std::vector<std::string> keys;
      add_keys(node, "", keys);
      // Sweeps and site files have keys of their own; a configuration begins with a section.
      if (keys.empty() || !sections.contains(keys.front().substr(0, keys.front().find('.')))) continue;
      for (const std::string& key : keys) {
        EXPECT_TRUE(known.contains(key)) << page << " has a configuration with the key " << key;
        ++checked;
      }
    }
  }
  EXPECT_GE(checked, 10);
}

TEST(Documents, TheSiteFilesKeysAreThoseOfThePage) {
  slurm::SiteParams params;
  const config::FieldList fields = slurm::site_fields(params);
  const std::string page = read_text_file(kSource / "docs/operations.md");
  const std::size_t from = page.find("## 2. The site file");
  const std::string section = page.substr(from, page.find("## 3.", from) - from);
  std::set<std::string> named;
  const std::regex row("\n\\| ([^|]+) \\|"), code("`([a-z_]+)`");
  for (std::sregex_iterator line(section.begin(), section.end(), row), end; line != end; ++line) {
    const std::string cell = (*line)[1];
    for (std::sregex_iterator word(cell.begin(), cell.end(), code); word != end; ++word) named.insert((*word)[1]);
  }
  std::set<std::string> known;
  for (const config::Field& field : fields.fields()) known.insert(field.path);
  EXPECT_EQ(named, known);
}

}  // namespace
}  // namespace moextract::stages::test
