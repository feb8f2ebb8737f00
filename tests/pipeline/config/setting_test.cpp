// --set KEY=VALUE, for every type.
#include <gtest/gtest.h>

#include "sample.h"

namespace moextract::config {
namespace {

SampleParams with(const std::string& setting) {
  SampleParams params;
  FieldList fields = params.fields();
  apply_setting(setting, fields);
  return params;
}

std::string message(const std::string& setting) {
  try {
    with(setting);
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::config);
    return error.what();
  }
  return "no error";
}

TEST(Setting, EveryType) {
  EXPECT_EQ(with("cluster.k=16").cluster.k, 16);
  EXPECT_EQ(with("cluster.rows=1e6").cluster.rows, 1000000);
  EXPECT_EQ(with("cluster.seed=12345678901234567890").cluster.seed, 12345678901234567890ull);
  EXPECT_EQ(with("cluster.tolerance=1e-3").cluster.tolerance, 1e-3);
  EXPECT_EQ(with("cluster.target=0.5").cluster.target, 0.5);
  EXPECT_EQ(with("cluster.limit=null").cluster.limit, std::nullopt);
  EXPECT_EQ(with("cluster.limit=").cluster.limit, std::nullopt);
  EXPECT_EQ(with("cluster.limit=7").cluster.limit, 7);
  EXPECT_FALSE(with("cluster.start.plus_plus=false").cluster.start.plus_plus);
  EXPECT_EQ(with("data.mean=0.1").data.mean, (std::array<double, 3>{0.1, 0.1, 0.1}));
  EXPECT_EQ(with("data.mean=[0.1, 0.2, 0.3]").data.mean, (std::array<double, 3>{0.1, 0.2, 0.3}));
  EXPECT_EQ(with("data.lists=[a, 'b, c']").data.lists, (std::vector<std::string>{"a", "b, c"}));
  EXPECT_EQ(with("data.lists=one").data.lists, (std::vector<std::string>{"one"}));
  EXPECT_EQ(with("data.layers=[1,2]").data.layers, (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(with("data.weights=[]").data.weights, std::vector<double>{});
  EXPECT_EQ(with("data.storage=separate").data.storage, Storage::separate);
  EXPECT_EQ(with("name=x").name, "x");
}

TEST(Setting, PathsAreTakenFromTheWorkingFolder) {
  EXPECT_EQ(with("data.images=./x/../y").data.images, "y");
  EXPECT_EQ(with("data.images=/abs").data.images, "/abs");
  EXPECT_EQ(with("data.cache=c").data.cache, "c");
}

TEST(Setting, TextNeedsNoQuotes) {
  EXPECT_EQ(with("name=a: b # c").name, "a: b # c");
  EXPECT_EQ(with("name=x=y").name, "x=y");
  EXPECT_EQ(with("name=null").name, "null");
  EXPECT_EQ(with("name=").name, "");
  EXPECT_EQ(with("name='[x]'").name, "[x]");
  EXPECT_EQ(with(" name = x ").name, "x");
}

TEST(Setting, Variables) {
  ::setenv("MOEXTRACT_TEST_A", "alpha", 1);
  EXPECT_EQ(with("name=${MOEXTRACT_TEST_A}/x").name, "alpha/x");
}

TEST(Setting, Messages) {
  ::unsetenv("MOEXTRACT_TEST_UNSET");
  EXPECT_EQ(message("cluster.k=many"), "--set cluster.k=many: expected a whole number of at least 1, got 'many'");
  EXPECT_EQ(message("cluster.k=[1]"), "--set cluster.k=[1]: expected a whole number of at least 1, got a list");
  EXPECT_EQ(message("cluster.k="), "--set cluster.k=: expected a whole number of at least 1, got ''");
  EXPECT_EQ(message("cluster.kk=3"), "--set cluster.kk=3: no such key; did you mean cluster.k?");
  EXPECT_EQ(message("clutser.k=3"), "--set clutser.k=3: no such key; did you mean cluster.k?");
  EXPECT_EQ(message("k=3"), "--set k=3: no such key; did you mean cluster.k?");
  EXPECT_EQ(message("cluster=3"), "--set cluster=3: cluster is a section; set one of its keys, such as cluster.k");
  EXPECT_EQ(message("cluster.k"), "--set cluster.k: expected KEY=VALUE, such as cluster.k=16");
  EXPECT_EQ(message("=3"), "--set =3: expected KEY=VALUE, such as cluster.k=16");
  EXPECT_EQ(message("data.layers=1,2"), "--set data.layers=1,2: expected a whole number of at least 0, got '1,2'");
  EXPECT_EQ(message("data.layers=[1, x]"),
            "--set data.layers=[1, x]: [1]: expected a whole number of at least 0, got 'x'");
  EXPECT_EQ(message("data.storage=share"),
            "--set data.storage=share: expected one of shared, separate, got 'share'; did you mean shared?");
  EXPECT_EQ(
      message("name=${MOEXTRACT_TEST_UNSET}"),
      "--set name=${MOEXTRACT_TEST_UNSET}: the environment variable MOEXTRACT_TEST_UNSET is not set; export it, or "
      "write ${MOEXTRACT_TEST_UNSET:-default}");
  EXPECT_EQ(
      message("data.layers=[1, 2"),
      "--set data.layers=[1, 2: not a quoted text or a list: end of sequence flow not found; put text that begins so "
      "in quotes");
  EXPECT_EQ(
      message("name='a' b"),
      "--set name='a' b: not a quoted text or a list: more text follows the closing quote or bracket; put text that "
      "begins so in quotes");
  EXPECT_EQ(
      message("name='a', b"),
      "--set name='a', b: not a quoted text or a list: text that belongs to no key or list; put text that begins so in "
      "quotes");
  EXPECT_EQ(message("name=B\xe4r"), "--set name=B\xe4r: not UTF-8 text");
}

}  // namespace
}  // namespace moextract::config
