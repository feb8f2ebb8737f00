// Reading sweep files and expanding them.
#include "sweep/sweep_file.h"

#include <fmt/format.h>

#include <cmath>
#include <set>

#include "sample.h"

namespace moextract::sweep {
namespace {

class SweepFileTest : public SweepTest {
 protected:
  SweepFile read(const std::string& text) {
    config::FieldList fields = sample_.fields();
    return read_sweep_file(write("s.yaml", text), fields);
  }
  std::string problem(const std::string& text) {
    return message_of([&] { read(text); }, ExitCode::config);
  }
  SampleConfig sample_;
};

TEST_F(SweepFileTest, AGridIsNestedLoopsInTheOrderOfTheFile) {
  const SweepFile file = read("base: base.yaml\ngrid:\n  cluster.k: [4, 8]\n  cluster.tap: [h, x]\n");
  EXPECT_EQ(file.name, "s");
  EXPECT_EQ(file.base, root_ / "base.yaml");
  EXPECT_EQ(file.folder, fs::path("runs/sweeps/s"));
  const std::vector<Settings> all = expand(file);
  const auto run = [](const char* k, const char* tap) { return Settings{{"cluster.k", k}, {"cluster.tap", tap}}; };
  EXPECT_EQ(all, (std::vector<Settings>{run("4", "h"), run("4", "x"), run("8", "h"), run("8", "x")}));
}

TEST_F(SweepFileTest, TheListIsCombinedWithTheGrid) {
  const SweepFile file = read(R"(base: b.yaml
set:
  tune.rate: 0.5
grid:
  cluster.seed: [1, 2]
list:
  - {cluster.k: 1}
  - {cluster.k: 8, cluster.spherical: true}
)");
  EXPECT_EQ(file.fixed, (Settings{{"tune.rate", "0.5"}}));
  EXPECT_EQ(file.seeds, (std::vector<std::string>{"cluster.seed"}))
      << "keys named seed are seeds unless it is said otherwise";
  const std::vector<Settings> all = expand(file);
  ASSERT_EQ(all.size(), 4u);
  EXPECT_EQ(all[1], (Settings{{"cluster.seed", "1"}, {"cluster.k", "8"}, {"cluster.spherical", "true"}}));
  EXPECT_EQ(all[2], (Settings{{"cluster.seed", "2"}, {"cluster.k", "1"}}));
}

TEST_F(SweepFileTest, DrawsAreWithinBoundsAndDoNotChangeWithTheCount) {
  const auto text = [](int count, const char* more = "") {
    return fmt::format(R"(base: b.yaml
random:
  count: {}
  seed: 3
  keys:
    tune.rate: {{from: 1e-4, to: 1e-1, scale: log}}
    cluster.k: {{from: 2, to: 5}}
    cluster.tap: [h, x]
{})",
                       count, more);
  };
  const std::vector<Settings> few = expand(read(text(50))), many = expand(read(text(2000)));
  ASSERT_EQ(many.size(), 2000u);
  for (std::size_t i = 0; i < few.size(); ++i) EXPECT_EQ(few[i], many[i]);
  std::map<std::string, int> of_k, of_tap;
  int below = 0;
  for (const Settings& settings : many) {
    const double rate = std::stod(settings[0].value);
    EXPECT_GE(rate, 1e-4);
    EXPECT_LE(rate, 1e-1);
    below += rate < std::sqrt(1e-5) ? 1 : 0;
    ++of_k[settings[1].value];
    ++of_tap[settings[2].value];
  }
  // Half of them lie below the middle of the logarithms; sqrt(2000) / 2 is the standard deviation, 22.
  EXPECT_NEAR(below, 1000, 110);
  ASSERT_EQ(of_k.size(), 4u) << "2, 3, 4, 5";
  for (const auto& [k, count] : of_k) EXPECT_NEAR(count, 500, 110) << k;
  ASSERT_EQ(of_tap.size(), 2u);
  EXPECT_NEAR(of_tap["h"], 1000, 110);
  const std::vector<Settings> with_another = expand(read(text(50, "    cluster.seed: [1, 2, 3]\n")));
  for (std::size_t i = 0; i < few.size(); ++i)
    EXPECT_EQ(few[i][0], with_another[i][0]) << "a new key does not move the others";
}

TEST_F(SweepFileTest, ValuesAreAsSetTakesThem) {
  fs::create_directories(root_);
  const SweepFile file =
      read("base: b.yaml\ngrid:\n  model.weights: [a.safetensors, \"b c\"]\n  tune.target: [null, 0.5]\n");
  EXPECT_EQ(file.grid[0].values, (std::vector<std::string>{(root_ / "a.safetensors").string(),
                                                           fmt::format("\"{}\"", (root_ / "b c").string())}))
      << "paths count from the sweep file's folder";
  EXPECT_EQ(file.grid[1].values, (std::vector<std::string>{"null", "0.5"}));
}

TEST_F(SweepFileTest, WrongFilesAreNamedWithLineAndKey) {
  EXPECT_EQ(problem("base: b.yaml\ngrid:\n  cluster.kk: [1]\n"),
            (root_ / "s.yaml").string() + ":3:3: cluster.kk: no such key; did you mean cluster.k?");
  EXPECT_TRUE(
      contains(problem("base: b.yaml\ngrid:\n  cluster.k: [8, many]\n"), ":3:18: cluster.k: expected a whole number"));
  EXPECT_TRUE(contains(problem("base: b.yaml\ngrid:\n  cluster.k: [0]\n"), "at least 1"));
  EXPECT_TRUE(contains(problem("base: b.yaml\ngrid:\n  cluster.k: 8\n"), "expected a list of at least one element"));
  EXPECT_TRUE(contains(problem("base: b.yaml\ngrid:\n  cluster.k: []\n"), "got an empty one"));
  EXPECT_TRUE(contains(problem("base: b.yaml\ngird:\n  cluster.k: [8]\n"), "gird: no such key; did you mean grid?"));
  EXPECT_TRUE(contains(problem("grid:\n  cluster.k: [8]\n"), "base is missing"));
  EXPECT_TRUE(contains(problem("base: b.yaml\n"), "nothing is varied"));
  EXPECT_TRUE(contains(problem("base: b.yaml\ngrid:\n  cluster.block: [1, 2]\n"), "does not affect results"));
  EXPECT_TRUE(
      contains(problem("base: b.yaml\nset: {run.folder: x}\ngrid:\n  cluster.k: [1, 2]\n"), "chosen by the sweep"));
  EXPECT_TRUE(contains(problem("base: b.yaml\ngrid: {cluster.k: [1]}\nlist:\n  - {cluster.k: 2}\n"),
                       "given under grid and under list"));
  EXPECT_TRUE(contains(problem("base: b.yaml\nset: {cluster.k: 1}\ngrid: {cluster.k: [1]}\n"), "given under "));
  EXPECT_TRUE(contains(problem("base: b.yaml\nname: a/b\ngrid: {cluster.k: [1]}\n"), "it names a folder"));
  EXPECT_TRUE(contains(problem("base: b.yaml\ngrid: {cluster.k: [1]}\nconstraints: [cluster.q < 3]\n"), "no such key"));
  EXPECT_TRUE(contains(problem("base: b.yaml\ngrid: {cluster.k: [1]}\nseeds: [cluster.seed]\n"), "is not varied"));
  EXPECT_TRUE(contains(problem("base: b.yaml\ngrid: {cluster.k: [1]}\njobs: 0\n"), "between 1 and"));
  const std::string random = "base: b.yaml\nrandom:\n  count: 3\n  keys:\n    ";
  EXPECT_TRUE(contains(problem(random + "tune.rate: {from: 0, to: 1, scale: log}\n"), "needs from above 0"));
  EXPECT_TRUE(contains(problem(random + "tune.rate: {from: 1, to: 0}\n"), "from is larger than to"));
  EXPECT_TRUE(contains(problem(random + "tune.rate: {from: 0, to: 2}\n"), "between 0 and 1"));
  EXPECT_TRUE(contains(problem(random + "tune.rate: {from: 0}\n"), "expected a list to choose from"));
  EXPECT_TRUE(contains(problem(random + "cluster.tap: {from: 0, to: 1}\n"), "is no number"));
  EXPECT_TRUE(contains(problem("base: b.yaml\nrandom: {keys: {cluster.k: [1]}}\n"), "count is missing"));
  EXPECT_TRUE(contains(problem("base: b.yaml\nrandom: {count: 3}\n"), "keys is missing"));
}

TEST_F(SweepFileTest, TooManyCombinationsAreRefused) {
  std::string numbers;
  for (int i = 1; i <= 400; ++i) numbers += (i > 1 ? ", " : "") + std::to_string(i);
  const SweepFile file =
      read("base: b.yaml\ngrid:\n  cluster.k: [" + numbers + "]\n  cluster.seed: [" + numbers + "]\n");
  EXPECT_TRUE(contains(message_of([&] { expand(file); }, ExitCode::config), "160000 combinations"));
}

}  // namespace
}  // namespace moextract::sweep
