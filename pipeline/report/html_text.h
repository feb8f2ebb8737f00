// Pieces of HTML: escaped text and tables. Every string that comes from outside goes through escape_html.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "report/results.h"

namespace moextract {

/// Safe as element text and inside a quoted attribute. Control characters become U+FFFD.
std::string escape_html(std::string_view text);

/// A cell: already escaped content, and the number it is sorted by, if any.
struct HtmlCell {
  std::string html;
  Number value;
  bool heading = false;  ///< the row's own name
};

HtmlCell text_cell(std::string_view text);
HtmlCell number_cell(std::string_view text, Number value);

struct HtmlColumn {
  std::string title;  ///< plain text; where every title is empty the table has no head
  bool numeric = false;
  std::string hint = {};  ///< plain text, shown when pointed at
};

/// A table in a box of its own that scrolls sideways where the page is too narrow; `sortable` needs JavaScript and is
/// merely absent without it.
class HtmlTable {
 public:
  HtmlTable(std::vector<HtmlColumn> columns, bool sortable);
  void add(std::vector<HtmlCell> cells, std::string_view row_class = "");
  std::string html() const;

 private:
  std::vector<HtmlColumn> columns_;
  bool sortable_;
  std::string rows_;
};

}  // namespace moextract
