// A CSV file with a line of column names (RFC 4180: quoted fields, doubled quotes, line breaks within quotes).
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace moextract::data {

class CsvTable {
 public:
  struct Row {
    std::vector<std::string> fields;
    int line = 0;  ///< where the row begins in the file, from 1
  };

  /// Throws UserError (input) with file:line for an open quote or a row of another length.
  explicit CsvTable(const std::filesystem::path& path);

  const std::vector<Row>& rows() const { return rows_; }
  /// Index of a column. Throws UserError (input) that lists the columns there are.
  std::size_t column(std::string_view name) const;

 private:
  std::string path_;
  std::vector<std::string> columns_;
  std::vector<Row> rows_;
};

}  // namespace moextract::data
