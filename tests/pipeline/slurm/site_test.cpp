// Site files.
#include "slurm/site.h"

#include <set>
#include <sstream>

#include "config/field_list.h"
#include "core/file.h"
#include "scratch.h"

namespace moextract::slurm {
namespace {

class Site : public SlurmTest {
 protected:
  ~Site() override { ::unsetenv("MOEXTRACT_SITE"); }
};

TEST_F(Site, WithoutAFileTheDefaultsHold) {
  ::unsetenv("MOEXTRACT_SITE");
  const SiteParams site = read_site("");
  EXPECT_EQ(site.partition, "");
  EXPECT_EQ(site.tries, 3);
}

TEST_F(Site, TheEnvironmentNamesOne) {
  ::setenv("MOEXTRACT_SITE", write("site.yaml", "partition: gpu\npreamble:\n  - module load openmpi\n").c_str(), 1);
  const SiteParams site = read_site("");
  EXPECT_EQ(site.partition, "gpu");
  EXPECT_EQ(site.preamble, std::vector<std::string>{"module load openmpi"});
  EXPECT_EQ(read_site(write("other.yaml", "partition: cpu\n")).partition, "cpu") << "the command line wins";
}

TEST_F(Site, MistakesAreNamed) {
  const fs::path file = write("site.yaml", "partiton: gpu\n");
  EXPECT_EQ(message_of([&] { read_site(file); }, ExitCode::config),
            file.string() + ":1:1: partiton: no such key; did you mean partition?");
}

TEST_F(Site, TheExampleHoldsTheDefaultsOfWhatItNames) {
  const SiteParams example = read_site(fs::path(MOEXTRACT_SOURCE_DIR) / "slurm/site.yaml"), defaults;
  EXPECT_EQ(example.partition, defaults.partition);
  EXPECT_EQ(example.time, defaults.time);
  EXPECT_EQ(example.warning, defaults.warning);
  EXPECT_EQ(example.tries, defaults.tries);
  EXPECT_EQ(example.gpus_per_node, defaults.gpus_per_node);
}

TEST(SiteReference, TheDocumentNamesEveryKeyAndNoOther) {
  const std::string page = read_text_file(fs::path(MOEXTRACT_SOURCE_DIR) / "docs/operations.md");
  const std::string chapter = page.substr(page.find("## 2."), page.find("## 3.") - page.find("## 2."));
  SiteParams params;
  const config::FieldList fields = site_fields(params);
  std::set<std::string> known;
  for (const config::Field& field : fields.fields()) {
    known.insert(field.path);
    EXPECT_TRUE(contains(chapter, "`" + field.path + "`")) << field.path << " is not documented";
  }
  std::istringstream lines(chapter);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("| `")) continue;
    const std::string cell = line.substr(0, line.find(" | "));
    for (std::size_t at = cell.find('`'); at != std::string::npos; at = cell.find('`', at)) {
      const std::size_t end = cell.find('`', at + 1);
      EXPECT_TRUE(known.contains(cell.substr(at + 1, end - at - 1))) << cell;
      at = end + 1;
    }
  }
}

}  // namespace
}  // namespace moextract::slurm
