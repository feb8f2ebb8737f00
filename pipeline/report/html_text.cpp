// Pieces of HTML: escaped text and tables.
#include "report/html_text.h"

#include <fmt/format.h>

#include "core/error.h"

namespace moextract {

std::string escape_html(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&#39;";
        break;
      case '\n':
      case '\t':
        result += c;
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
          result += "\xef\xbf\xbd";
        } else {
          result += c;
        }
    }
  }
  return result;
}

HtmlCell text_cell(std::string_view text) {
  return {text.empty() ? "-" : escape_html(text), {}, false};
}

HtmlCell number_cell(std::string_view text, Number value) {
  return {escape_html(text), value, false};
}

HtmlTable::HtmlTable(std::vector<HtmlColumn> columns, bool sortable)
    : columns_(std::move(columns)), sortable_(sortable) {}

void HtmlTable::add(std::vector<HtmlCell> cells, std::string_view row_class) {
  MOEX_ASSERT(cells.size() == columns_.size(), "a row has as many cells as the table has columns");
  rows_ += row_class.empty() ? "<tr>" : fmt::format("<tr class=\"{}\">", row_class);
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const char* tag = cells[i].heading ? "th" : "td";
    rows_ += fmt::format("<{}{}{}{}>{}</{}>", tag, cells[i].heading ? " scope=\"row\"" : "",
                         columns_[i].numeric ? " class=\"num\"" : "",
                         cells[i].value ? fmt::format(" data-v=\"{}\"", *cells[i].value) : "", cells[i].html, tag);
  }
  rows_ += "</tr>\n";
}

std::string HtmlTable::html() const {
  std::string head;
  bool titled = false;
  for (const HtmlColumn& column : columns_) {
    titled = titled || !column.title.empty();
    head += fmt::format("<th scope=\"col\"{}{}>{}</th>", column.numeric ? " class=\"num\"" : "",
                        column.hint.empty() ? "" : fmt::format(" title=\"{}\"", escape_html(column.hint)),
                        escape_html(column.title));
  }
  if (titled) head = "<thead><tr>" + head + "</tr></thead>";
  return fmt::format("<div class=\"scroll\" tabindex=\"0\"><table{}>{}\n<tbody>\n{}</tbody></table></div>\n",
                     sortable_ ? " class=\"sortable\"" : "", titled ? head : "", rows_);
}

}  // namespace moextract
