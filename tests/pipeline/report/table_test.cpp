// The plain-text table.
#include "report/text_table.h"

#include <gtest/gtest.h>

#include <iterator>
#include <limits>
#include <sstream>

#include "core/error.h"
#include "example.h"

namespace moextract {
namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

void expect_plain(const std::string& text) {
  ASSERT_TRUE(text.empty() || text.back() == '\n');
  for (const std::string& line : lines_of(text)) {
    EXPECT_LE(line.size(), static_cast<std::size_t>(kTextTableWidth)) << line;
    for (const char c : line) EXPECT_TRUE(c >= 0x20 && c < 0x7f) << line;
  }
}

TEST(TextTable, ShowsTheNumbersOfTheExample) {
  const std::string text = render_table(example_results());
  expect_plain(text);
  std::string dense, experts, layer3;
  for (const std::string& line : lines_of(text)) {
    if (line.rfind("Dense ", 0) == 0) dense = line;
    if (line.rfind("Experts, fine-tuned ", 0) == 0) experts = line;
    if (line.rfind("3 ", 0) == 0) layer3 = line;
  }
  const auto words = [](const std::string& line) {
    std::istringstream in(line);
    return std::vector<std::string>(std::istream_iterator<std::string>(in), {});
  };
  EXPECT_EQ(words(dense), (std::vector<std::string>{"Dense", "69.60", "1.19", "88.73", "100.0", "1.258", "100.0",
                                                    "5.563", "100.0", "212.4", "1.00x"}));
  EXPECT_EQ(words(experts), (std::vector<std::string>{"Experts,", "fine-tuned", "67.60", "1.21", "88.13", "97.1",
                                                      "0.805", "64.0", "4.990", "89.7", "241.2", "1.14x"}));
  EXPECT_EQ(dense.size(), experts.size());
  ASSERT_GE(words(layer3).size(), 4u);
  EXPECT_EQ(words(layer3)[1], "experts");
  EXPECT_EQ(words(layer3)[2], "16");
  EXPECT_NE(text.find("1,500 images; s.e."), std::string::npos);
  EXPECT_NE(text.find("collect 48.2 s (reused from an earlier run)"), std::string::npos);
  EXPECT_NE(text.find("note: The numbers on this page are made up"), std::string::npos);
}

TEST(TextTable, UnknownIsADash) {
  nlohmann::json json = empty_results();
  json["variants"] = {{{"name", "dense"}, {"macs_per_image", std::numeric_limits<double>::quiet_NaN()}}};
  const std::string text = render_table(json);
  expect_plain(text);
  EXPECT_NE(text.find("Dense          -     -"), std::string::npos) << text;
  EXPECT_EQ(text.find("nan"), std::string::npos);
  EXPECT_NE(render_table(empty_results()).find("No variant was evaluated."), std::string::npos);
}

TEST(TextTable, ImagesAreAColumnWhereTheyDiffer) {
  nlohmann::json json = example_results();
  json["variants"][2]["images"] = 1499;
  const std::string text = render_table(json);
  expect_plain(text);
  EXPECT_NE(text.find("1,499\n"), std::string::npos) << text;
}

TEST(TextTable, LongAndForeignTextStaysInsideTheWidth) {
  nlohmann::json json = example_results();
  json["variants"][4]["label"] = "Experten für \x1b[31mBilder, " + std::string(200, 'x');
  json["variants"][4]["macs_per_image"] = 1.0e15;
  json["variants"][4]["images_per_second"] = 123456789.1;
  json["notes"].push_back(std::string(300, 'y') + " z");
  json["layers"][1]["kind"] = std::string(150, 'k');
  json["time"][0]["stage"] = "\xe2\x86\x92";
  const std::string text = render_table(json);
  expect_plain(text);
  EXPECT_NE(text.find("time: ? 48.2 s"), std::string::npos) << text;
}

TEST(TextTable, AForeignFileIsAnError) {
  EXPECT_THROW(render_table({{"format", "x"}}), UserError);
}

}  // namespace
}  // namespace moextract
