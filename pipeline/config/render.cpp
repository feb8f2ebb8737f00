#include "config/render.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "config/describe.h"
#include "config/yaml_text.h"

namespace moextract::config {
namespace {

constexpr const char* kRuntimeMark = " †";

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

/// One cell of a Markdown table.
std::string cell(const std::string& text) {
  return replaced(replaced(text, "|", "\\|"), "\n", " ");
}

std::string bounds_and_unit(const Field& field) {
  const std::string bounds = bounds_text(field);
  if (field.unit.empty()) return bounds;
  return bounds.empty() ? field.unit : bounds + ", " + field.unit;
}

std::string type_and_bounds(const Field& field) {
  const std::string bounds = bounds_and_unit(field);
  return bounds.empty() ? type_name(field) : type_name(field) + ", " + bounds;
}

std::string default_text(const Field& field) {
  return field.required ? "required" : fmt::format("`{}`", to_yaml_text(field));
}

const EnumRef* as_enum(const Field& field) {
  return std::get_if<EnumRef>(&field.value);
}

/// The rows of one section and, under them, what its names mean.
std::string section_table(const FieldList& fields, const std::string& section) {
  std::string rows, names;
  if (section.empty()) {
    rows +=
        "| `include` | path | none | | Another file, relative to this one, whose values are read first and then "
        "overridden |\n";
  }
  for (const Field& field : fields.fields()) {
    if (parent_path(field.path) != section) continue;
    const EnumRef* choices = as_enum(field);
    rows += fmt::format("| `{}`{} | {} | {} | {} | {} |\n", field.path, field.affects_result ? "" : kRuntimeMark,
                        choices ? "name" : cell(type_name(field)), cell(default_text(field)),
                        cell(bounds_and_unit(field)), cell(field.doc));
    if (choices == nullptr) continue;
    names += fmt::format("\n`{}` is one of\n\n", field.path);
    for (const auto& [name, sentence] : choices->names) names += fmt::format("- `{}`: {}\n", name, sentence);
  }
  if (rows.empty()) return "";
  return "\n| key | type | default | bounds, unit | meaning |\n|---|---|---|---|---|\n" + rows + names;
}

/// Breaks at blanks to lines of at most `width`, each with `indent` in front and a line end.
std::string wrapped(const std::string& text, const std::string& indent, std::size_t width) {
  std::string result, line;
  const auto flush = [&] {
    if (!line.empty()) result += indent + line + "\n";
    line.clear();
  };
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find_first_of(" \n", at), text.size());
    const std::string word = text.substr(at, end - at);
    if (!line.empty() && indent.size() + line.size() + 1 + word.size() > width) flush();
    if (!word.empty()) line += (line.empty() ? "" : " ") + word;
    at = end + 1;
  }
  flush();
  return result;
}

/// An input path is relative to the file it was read from; written elsewhere only the absolute one names the same file.
std::string portable_text(const Field& field) {
  const auto* path = std::get_if<std::filesystem::path*>(&field.value);
  if (path == nullptr || field.output_path || (*path)->empty()) return to_yaml_text(field);
  return yaml_text(std::filesystem::absolute(**path).lexically_normal().string());
}

std::string yaml_section(const FieldList& fields, const std::string& section, const std::string& indent) {
  std::string text;
  for (const Field& field : fields.fields()) {
    if (parent_path(field.path) != section) continue;
    const std::string comment = fmt::format("{} ({})", field.doc, type_and_bounds(field));
    text += wrapped(comment, indent + "# ", 120);
    text += fmt::format("{}{}: {}\n", indent, last_name(field.path), portable_text(field));
  }
  for (const SectionDoc& child : fields.sections()) {
    if (parent_path(child.path) != section) continue;
    const std::string inside = yaml_section(fields, child.path, indent + "  ");
    if (inside.empty()) continue;
    if (section.empty() && !text.empty()) text += "\n";
    text += wrapped(child.doc, indent + "# ", 120);
    text += fmt::format("{}{}:\n{}", indent, last_name(child.path), inside);
  }
  return text;
}

struct JsonValue {
  nlohmann::json operator()(const std::filesystem::path* value) const { return value->string(); }
  template <class Number>
  nlohmann::json operator()(const std::optional<Number>* value) const {
    return *value ? nlohmann::json(**value) : nlohmann::json(nullptr);
  }
  nlohmann::json operator()(const EnumRef& value) const { return value.get(); }
  template <class Value>
  nlohmann::json operator()(const Value* value) const {
    return *value;
  }
};

}  // namespace

std::string reference_page(const FieldList& fields) {
  std::string page = fmt::format(
      "# Configuration reference\n\n"
      "Every key with its type, default, bounds and meaning. In a file, `cluster.k` is the key `k` under `cluster:`; "
      "on the "
      "command line it is `--set cluster.k=VALUE`. Values may hold `${{VAR}}` and `${{VAR:-default}}`. Relative paths "
      "are "
      "taken from the folder of the config file, output paths from the working folder.\n\n"
      "Keys marked with{} do not affect results: artefacts made with other values of them are used again.\n\n"
      "## Top level\n",
      kRuntimeMark);
  page += section_table(fields, "");
  for (const SectionDoc& section : fields.sections()) {
    page += fmt::format("\n## `{}`\n", section.path);
    if (!section.doc.empty()) page += "\n" + section.doc + "\n";
    page += section_table(fields, section.path);
  }
  return page;
}

std::string help_text(const FieldList& fields, std::string_view prefix) {
  constexpr std::size_t kWidth = 100;
  std::string text;
  for (const Field& field : fields.fields()) {
    if (!is_under(field.path, prefix)) continue;
    const std::string value = field.required ? "required" : fmt::format("= {}", to_yaml_text(field));
    text += fmt::format("  {} ({}) {}\n", field.path, type_and_bounds(field), value);
    text += wrapped(field.doc, "      ", kWidth);
    if (const EnumRef* choices = as_enum(field)) {
      for (const auto& [name, sentence] : choices->names) text += wrapped(name + ": " + sentence, "        ", kWidth);
    }
  }
  return text;
}

std::string to_yaml(const FieldList& fields) {
  const std::string text = yaml_section(fields, "", "");
  return text.empty() ? "{}\n" : text;
}

nlohmann::json to_json(const FieldList& fields, bool only_results, std::string_view prefix) {
  nlohmann::json root = nlohmann::json::object();
  for (const Field& field : fields.fields()) {
    if ((only_results && !field.affects_result) || !is_under(field.path, prefix)) continue;
    nlohmann::json* place = &root;
    std::size_t at = 0;
    for (std::size_t dot; (dot = field.path.find('.', at)) != std::string::npos; at = dot + 1) {
      place = &(*place)[field.path.substr(at, dot - at)];
    }
    (*place)[field.path.substr(at)] = std::visit(JsonValue{}, field.value);
  }
  return root;
}

}  // namespace moextract::config
