#include "data/csv_table.h"

#include <algorithm>

#include "core/error.h"
#include "core/file.h"

namespace moextract::data {
namespace {

/// Splits a text into rows; empty lines are left out.
std::vector<CsvTable::Row> parse(std::string_view text, const std::string& path) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  std::vector<CsvTable::Row> rows;
  CsvTable::Row row;
  std::string field;
  int line = 1, quote_line = 0;
  bool quoted = false, was_quoted = false;
  row.line = line;
  const auto end_field = [&] {
    row.fields.push_back(std::move(field));
    field.clear();
    was_quoted = false;
  };
  const auto end_row = [&] {
    const bool empty = row.fields.empty() && field.empty() && !was_quoted;
    if (!empty) {
      end_field();
      rows.push_back(std::move(row));
    }
    row = {};
    row.line = line + 1;
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '"' && i + 1 < text.size() && text[i + 1] == '"') {
        field += '"';
        ++i;
      } else if (c == '"') {
        quoted = false;
      } else {
        field += c;
        line += c == '\n';
      }
    } else if (c == '"' && field.empty() && !was_quoted) {
      quoted = was_quoted = true;
      quote_line = line;
    } else if (c == ',') {
      end_field();
    } else if (c == '\n') {
      end_row();
      ++line;
    } else if (c != '\r' || (i + 1 < text.size() && text[i + 1] != '\n')) {
      field += c;
    }
  }
  if (quoted) fail(ExitCode::input, "{}:{}: a quoted field is not closed", path, quote_line);
  end_row();
  return rows;
}

}  // namespace

CsvTable::CsvTable(const std::filesystem::path& path)
    : path_(path.string()), rows_(parse(read_text_file(path), path_)) {
  if (rows_.empty()) fail(ExitCode::input, "{}: the file is empty; its first line must name the columns", path_);
  columns_ = std::move(rows_.front().fields);
  rows_.erase(rows_.begin());
  for (const Row& row : rows_) {
    if (row.fields.size() != columns_.size()) {
      fail(ExitCode::input, "{}:{}: {} fields, but the first line names {} columns", path_, row.line, row.fields.size(),
           columns_.size());
    }
  }
}

std::size_t CsvTable::column(std::string_view name) const {
  const auto found = std::find(columns_.begin(), columns_.end(), name);
  if (found == columns_.end()) {
    fail(ExitCode::input, "{}: no column '{}'; its columns are {}", path_, name, fmt::join(columns_, ", "));
  }
  return static_cast<std::size_t>(found - columns_.begin());
}

}  // namespace moextract::data
