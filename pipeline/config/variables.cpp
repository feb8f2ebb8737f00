#include "config/variables.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>

namespace moextract::config {
namespace {

/// Position of the brace that closes the "${" whose inside begins at `from`, or npos.
std::size_t closing_brace(std::string_view text, std::size_t from) {
  int open = 1;
  for (std::size_t at = from; at < text.size(); ++at) {
    if (text.substr(at).starts_with("${")) ++open;
    if (text[at] == '}' && --open == 0) return at;
  }
  return std::string_view::npos;
}

bool is_variable_name(std::string_view name) {
  return !name.empty() && !std::isdigit(static_cast<unsigned char>(name[0])) &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; });
}

}  // namespace

std::optional<std::string> expand_variables(std::string_view text, std::string& problem) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    if (text.substr(at).starts_with("$${")) {
      result += "${";
      at += 3;
      continue;
    }
    if (!text.substr(at).starts_with("${")) {
      result += text[at++];
      continue;
    }
    const std::size_t end = closing_brace(text, at + 2);
    if (end == std::string_view::npos) {
      problem = "'${' without its '}'; write $${ for a plain ${";
      return std::nullopt;
    }
    const std::string_view inside = text.substr(at + 2, end - at - 2);
    const std::size_t mark = inside.find(":-");
    const std::string name(inside.substr(0, mark));
    if (!is_variable_name(name)) {
      problem = fmt::format("'${{{}}}' is not of the form ${{VAR}} or ${{VAR:-default}}", inside);
      return std::nullopt;
    }
    const char* value = std::getenv(name.c_str());
    if (mark != std::string_view::npos && (value == nullptr || *value == '\0')) {
      const auto fallback = expand_variables(inside.substr(mark + 2), problem);
      if (!fallback) return std::nullopt;
      result += *fallback;
    } else if (value != nullptr) {
      result += value;
    } else {
      problem = fmt::format("the environment variable {0} is not set; export it, or write ${{{0}:-default}}", name);
      return std::nullopt;
    }
    at = end + 1;
  }
  return result;
}

}  // namespace moextract::config
