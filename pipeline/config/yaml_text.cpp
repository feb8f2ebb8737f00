#include "config/yaml_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "config/field_list.h"

namespace moextract::config {
namespace {

/// Plain only what no YAML reader, ours or another, takes for anything but text.
bool is_safe_plain(std::string_view text) {
  static constexpr std::array<std::string_view, 9> kWords = {"true", "false", "yes", "no", "on",
                                                             "off",  "null",  "y",   "n"};
  if (text.empty()) return false;
  const auto plain = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || std::string_view("_./-+").find(c) != std::string_view::npos;
  };
  if (!std::all_of(text.begin(), text.end(), plain)) return false;
  if (!std::isalpha(static_cast<unsigned char>(text[0])) && text[0] != '/' && !text.starts_with("./") &&
      !text.starts_with("../")) {
    return false;
  }
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return std::find(kWords.begin(), kWords.end(), lower) == kWords.end();
}

struct ValueText {
  std::string operator()(const bool* value) const { return *value ? "true" : "false"; }
  template <class Number>
  std::string operator()(const Number* value) const {
    return fmt::format("{}", *value);
  }
  std::string operator()(const std::string* value) const { return yaml_text(*value); }
  std::string operator()(const std::filesystem::path* value) const { return yaml_text(value->string()); }
  template <class Number>
  std::string operator()(const std::optional<Number>* value) const {
    return *value ? fmt::format("{}", **value) : "null";
  }
  std::string operator()(const std::array<double, 3>* value) const { return list(*value); }
  template <class Element>
  std::string operator()(const std::vector<Element>* value) const {
    return list(*value);
  }
  std::string operator()(const EnumRef& value) const { return yaml_text(value.get()); }

  template <class Elements>
  std::string list(const Elements& elements) const {
    std::string text;
    for (const auto& element : elements) text += (text.empty() ? "" : ", ") + (*this)(&element);
    return "[" + text + "]";
  }
};

}  // namespace

std::string yaml_text(std::string_view text) {
  if (is_safe_plain(text)) return std::string(text);
  std::string quoted = "\"";
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    const auto code = static_cast<unsigned char>(c);
    if (c == '$' && text.substr(at).starts_with("${")) {
      quoted += "$$";
    } else if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (c == '\n') {
      quoted += "\\n";
    } else if (c == '\t') {
      quoted += "\\t";
    } else if (code < 0x20 || code == 0x7f) {
      quoted += fmt::format("\\x{:02x}", code);
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

std::string to_yaml_text(const Field& field) {
  return std::visit(ValueText{}, field.value);
}

}  // namespace moextract::config
