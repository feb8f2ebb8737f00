// The frame of the report page: style sheet, optional script, head and body.
#pragma once

#include <string>
#include <string_view>

namespace moextract {

/// A complete document that refers to nothing outside itself. `title` is plain text, `body` is HTML.
std::string html_page(std::string_view title, std::string_view body);

}  // namespace moextract
