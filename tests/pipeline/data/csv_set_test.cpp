// CSV sets: quoting, columns by name, and messages with the line.
#include "data/csv_table.h"
#include "data/image_set.h"
#include "test_files.h"

namespace moextract::data::test {
namespace {

class CsvSet : public testing::Test {
 protected:
  CsvSet() {
    for (const char* name : {"a.png", "b, c.png", "d.png"}) folder_.write(name, golden_image("grey_1bit.png"));
  }
  std::unique_ptr<ImageSet> open(const std::string& text) {
    params_.source = folder_.write("labels.csv", text);
    return open_image_set(params_);
  }
  void expect_refused(const std::string& text, const std::vector<std::string>& parts) {
    expect_message([&] { open(text); }, parts);
  }

  TemporaryFolder folder_;
  ImageSetParams params_;
};

TEST(CsvTable, QuotesAndLineEnds) {
  const TemporaryFolder folder;
  const CsvTable table(folder.write("t.csv",
                                    "\xef\xbb\xbf"
                                    "a,\"b\"\r\n\"x, \"\"y\"\"\nz\",1\r\n\n,\"\"\nlast,2"));
  EXPECT_EQ(table.column("b"), 1u);
  ASSERT_EQ(table.rows().size(), 3u);
  EXPECT_EQ(table.rows()[0].fields, (std::vector<std::string>{"x, \"y\"\nz", "1"}));
  EXPECT_EQ(table.rows()[0].line, 2);
  EXPECT_EQ(table.rows()[1].fields, (std::vector<std::string>{"", ""}));
  EXPECT_EQ(table.rows()[1].line, 5);
  EXPECT_EQ(table.rows()[2].fields, (std::vector<std::string>{"last", "2"}));
}

TEST_F(CsvSet, FilesAndLabels) {
  const auto set = open("note,file,label\nx,d.png,3\n\"y, z\",\"b, c.png\",0\n");
  ASSERT_EQ(set->size(), 2);
  EXPECT_EQ(set->id(0), "d.png");
  EXPECT_EQ(set->label(0), 3);
  EXPECT_EQ(set->id(1), "b, c.png");
  EXPECT_EQ(set->classes(), 4);
  EXPECT_EQ(set->load(1).width, 37);
}

TEST_F(CsvSet, OtherColumnsAndRoot) {
  folder_.write("tables/t.csv", "image,class\na.png,1\n");
  params_.source = folder_ / "tables/t.csv";
  params_.file_column = "image";
  params_.label_column = "class";
  expect_message([this] { open_image_set(params_); }, {"t.csv:2", "tables/a.png", "root"});
  params_.root = folder_.path();
  EXPECT_EQ(open_image_set(params_)->label(0), 1);
}

TEST_F(CsvSet, Mistakes) {
  expect_refused("", {"labels.csv", "empty"});
  expect_refused("file,label\n", {"no pictures"});
  expect_refused("file,index,licence\na.png,1,x\n", {"no column 'label'", "file, index, licence"});
  expect_refused("file,label\na.png,1\nd.png\n", {"labels.csv:3", "1 fields", "2 columns"});
  expect_refused("file,label\na.png,cat\n", {"labels.csv:2", "'label'", "'cat'", "whole number"});
  expect_refused("file,label\na.png,1.5\n", {"labels.csv:2", "'1.5'"});
  expect_refused("file,label\na.png,-1\n", {"labels.csv:2", "'-1'"});
  expect_refused("file,label\na.png,99999999999\n", {"labels.csv:2"});
  expect_refused("file,label\na.png,\n", {"labels.csv:2"});
  expect_refused("file,label\n,1\n", {"labels.csv:2", "'file'"});
  expect_refused("file,label\na.png,1\na.png,1\n", {"labels.csv:3", "a.png", "line 2"});
  expect_refused("file,label\nmissing.png,1\n", {"labels.csv:2", "missing.png", "No such file"});
  expect_refused("file,label\n\"a.png,1\n", {"labels.csv:2", "not closed"});
}

TEST_F(CsvSet, RealPhotographs) {
  const char* data = std::getenv("MOEXTRACT_TEST_DATA");
  if (!data) GTEST_SKIP() << "MOEXTRACT_TEST_DATA is not set: no real pictures";
  params_.source = fs::path(data) / "nips17-mini200/labels.csv";
  params_.root = fs::path(data) / "nips17-mini200/images";
  params_.label_column = "index";
  const auto set = open_image_set(params_);
  EXPECT_EQ(set->size(), 200);
  EXPECT_EQ(set->id(0), "000b7d55b6184b08.jpg");
  EXPECT_EQ(set->label(0), 388);
  EXPECT_EQ(set->load(0).width, 299);
}

}  // namespace
}  // namespace moextract::data::test
