#include "config/reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>

#include "config/describe.h"
#include "config/field_value.h"
#include "config/yaml_documents.h"
#include "config/yaml_file.h"
#include "core/error.h"

namespace moextract::config {
namespace fs = std::filesystem;
namespace {

constexpr const char* kInclude = "include";

Field* find_field(FieldList& fields, const std::string& path) {
  auto& all = fields.fields();
  const auto found = std::find_if(all.begin(), all.end(), [&](const Field& field) { return field.path == path; });
  return found == all.end() ? nullptr : &*found;
}

bool is_section(const FieldList& fields, const std::string& path) {
  const auto& all = fields.sections();
  return std::any_of(all.begin(), all.end(), [&](const SectionDoc& section) { return section.path == path; });
}

std::vector<std::string> all_paths(const FieldList& fields) {
  std::vector<std::string> paths;
  for (const SectionDoc& section : fields.sections()) paths.push_back(section.path);
  for (const Field& field : fields.fields()) paths.push_back(field.path);
  return paths;
}

/// The next step for a key that does not exist: the nearest key beside it, the same name elsewhere, the nearest path
/// anywhere, or what there is to choose from.
std::string unknown_key(const FieldList& fields, const std::string& path) {
  const std::string parent = parent_path(path), name = last_name(path);
  std::vector<std::string> siblings, namesakes, others;
  for (const std::string& candidate : all_paths(fields)) {
    if (parent_path(candidate) == parent) {
      siblings.push_back(last_name(candidate));
      continue;
    }
    if (last_name(candidate) == name) namesakes.push_back(candidate);
    if (!is_under(path, candidate)) others.push_back(candidate);
  }
  if (const std::string near = nearest_name(name, siblings); !near.empty()) {
    return fmt::format("no such key; did you mean {}{}{}?", parent, parent.empty() ? "" : ".", near);
  }
  if (!namesakes.empty() && namesakes.size() <= 3) {
    return fmt::format("no such key; did you mean {}?", fmt::join(namesakes, " or "));
  }
  if (const std::string near = nearest_name(path, others); !near.empty()) {
    return fmt::format("no such key; did you mean {}?", near);
  }
  if (siblings.empty()) return "no such key";
  return fmt::format("no such key; {} has {}", parent.empty() ? "the top level" : parent, fmt::join(siblings, ", "));
}

/// Some key of a section, for messages.
std::string key_of_section(const FieldList& fields, const std::string& section) {
  for (const Field& field : fields.fields()) {
    if (is_under(field.path, section + ".")) return field.path;
  }
  return section + ".KEY";
}

/// Reads one file, after what it includes.
class FileReader {
 public:
  FileReader(FieldList& fields, fs::path file, std::vector<fs::path> including)
      : fields_(fields), file_(std::move(file)), including_(std::move(including)) {
    source_.folder = file_.parent_path();
    source_.prefix = [this](const YAML::Mark& mark, const std::string& key) {
      return position(file_, mark) + ": " + key + ": ";
    };
  }

  /// Adds the paths of the fields that were set to `used`.
  void read(std::set<std::string>& used) {
    const YAML::Node root = load_yaml_file(file_);
    check_keys(root, "");
    for (const auto& entry : root) {
      if (entry.first.Scalar() == kInclude) include(entry.first, entry.second, used);
    }
    walk(root, "");
    for (const auto& [path, line] : lines_) used.insert(path);
  }

 private:
  void include(const YAML::Node& key, const YAML::Node& value, std::set<std::string>& used) {
    if (!value.IsScalar() || value.Scalar().empty()) {
      wrong(value.IsNull() ? key : value, kInclude,
            fmt::format("expected a file name, got {}", value.IsScalar() ? "nothing" : found_text(value)));
    }
    const fs::path other = (source_.folder / scalar_text(value, key.Mark(), kInclude, source_)).lexically_normal();
    std::vector<fs::path> including = including_;
    including.push_back(file_);
    for (auto it = including.begin(); it != including.end(); ++it) {
      std::error_code missing;
      if (!fs::equivalent(*it, other, missing)) continue;
      std::string circle;
      for (; it != including.end(); ++it) circle += it->string() + " -> ";
      wrong(value, kInclude, fmt::format("files include each other: {}{}", circle, other.string()));
    }
    if (!fs::exists(other)) wrong(value, kInclude, fmt::format("no such file: {}", other.string()));
    FileReader(fields_, other, std::move(including)).read(used);
  }

  /// yaml-cpp keeps all entries of a map that names a key twice, and a lookup finds one of them silently.
  void check_keys(const YAML::Node& map, const std::string& section) const {
    std::map<std::string, int> lines;
    for (const auto& entry : map) {
      const YAML::Node& key = entry.first;
      if (!key.IsScalar()) {
        fail(ExitCode::config, "{}: expected the name of a key, got {}", position(file_, key.Mark()), found_text(key));
      }
      const auto [earlier, is_new] = lines.try_emplace(key.Scalar(), key.Mark().line + 1);
      if (!is_new) given_twice(key, path_of(section, key), earlier->second);
    }
  }

  void walk(const YAML::Node& map, const std::string& section) {
    check_keys(map, section);
    for (const auto& entry : map) {
      const YAML::Node& key = entry.first;
      const YAML::Node& value = entry.second;
      const std::string path = path_of(section, key);
      if (path == kInclude) continue;
      if (Field* field = find_field(fields_, path)) {
        const auto [earlier, is_new] = lines_.try_emplace(path, key.Mark().line + 1);
        if (!is_new) given_twice(key, path, earlier->second);  // once as cluster.k, once as k under cluster
        assign(*field, value, key.Mark(), source_);
      } else if (!is_section(fields_, path)) {
        wrong(key, path, unknown_key(fields_, path));
      } else if (value.IsMap()) {
        walk(value, path);
      } else if (!value.IsNull()) {  // null: all its keys are commented out
        wrong(value, path,
              fmt::format("expected a section (keys such as {}, indented, on lines of their own), got {}",
                          last_name(key_of_section(fields_, path)), found_text(value)));
      }
    }
  }

  static std::string path_of(const std::string& section, const YAML::Node& key) {
    return section.empty() ? key.Scalar() : section + "." + key.Scalar();
  }
  [[noreturn]] void wrong(const YAML::Node& node, const std::string& path, const std::string& text) const {
    throw UserError(ExitCode::config, source_.prefix(node.Mark(), path) + text);
  }
  [[noreturn]] void given_twice(const YAML::Node& key, const std::string& path, int line) const {
    wrong(key, path, fmt::format("given twice, first in line {}; leave one of them", line));
  }

  FieldList& fields_;
  fs::path file_;
  std::vector<fs::path> including_;   // the files that led here, outermost first
  std::map<std::string, int> lines_;  // fields this file has set, and where
  ValueSource source_;
};

std::string trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return "";
  return std::string(text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1));
}

/// Text stays text however it looks to YAML (a ': ' or ' #' in a path); only lists and quotes are YAML's.
YAML::Node setting_node(const std::string& value, const std::string& prefix) {
  if (value.empty() || (value[0] != '[' && value[0] != '"' && value[0] != '\'')) return YAML::Node(value);
  std::string problem = "more text follows the closing quote or bracket";
  try {
    const std::vector<YAML::Node> nodes = load_documents(value);
    if (nodes.size() == 1) return nodes.front();
  } catch (const YAML::Exception& failure) {
    problem = failure.msg;
  }
  fail(ExitCode::config, "{}not a quoted text or a list: {}; put text that begins so in quotes", prefix, problem);
}

bool is_missing(const Field& field) {
  struct Visitor {
    const Field& field;
    bool operator()(const std::string* value) const { return value->empty(); }
    bool operator()(const fs::path* value) const { return value->empty(); }
    bool operator()(const std::optional<double>* value) const { return !value->has_value(); }
    bool operator()(const std::optional<std::int64_t>* value) const { return !value->has_value(); }
    bool operator()(const std::vector<std::string>* value) const { return value->empty(); }
    bool operator()(const std::vector<std::int64_t>* value) const { return value->empty(); }
    bool operator()(const std::vector<double>* value) const { return value->empty(); }
    bool operator()(const void*) const { return !field.given; }  // every number is a value: was it theirs?
    bool operator()(const EnumRef&) const { return !field.given; }
  };
  return std::visit(Visitor{field}, field.value);
}

}  // namespace

void read_yaml(const fs::path& file, FieldList& fields, std::vector<std::string>* used) {
  std::set<std::string> set_fields;
  FileReader(fields, file, {}).read(set_fields);
  if (used != nullptr) used->insert(used->end(), set_fields.begin(), set_fields.end());
}

Field& need_field(FieldList& fields, const std::string& path, const std::string& prefix) {
  Field* field = find_field(fields, path);
  if (field == nullptr && is_section(fields, path)) {
    fail(ExitCode::config, "{}{} is a section; set one of its keys, such as {}", prefix, path,
         key_of_section(fields, path));
  }
  if (field == nullptr) fail(ExitCode::config, "{}{}", prefix, unknown_key(fields, path));
  return *field;
}

void apply_setting(std::string_view setting, FieldList& fields) {
  const std::string prefix = fmt::format("--set {}: ", setting);
  if (first_non_text_byte(setting) != std::string_view::npos) {
    fail(ExitCode::config, "{}not UTF-8 text", prefix);
  }
  const auto equals = setting.find('=');
  const std::string path = trimmed(setting.substr(0, equals));
  if (equals == std::string_view::npos || path.empty()) {
    fail(ExitCode::config, "{}expected KEY=VALUE, such as cluster.k=16", prefix);
  }
  Field& field = need_field(fields, path, prefix);
  ValueSource source;
  source.prefix = [&](const YAML::Mark&, const std::string& key) {
    return key == path ? prefix : prefix + key.substr(path.size()) + ": ";
  };
  assign(field, setting_node(trimmed(setting.substr(equals + 1)), prefix), YAML::Mark::null_mark(), source);
}

void check_required(const FieldList& fields, const fs::path& file) {
  std::string missing;
  for (const Field& field : fields.fields()) {
    if (!field.required || !is_missing(field)) continue;
    missing += fmt::format("{}{} ({})", missing.empty() ? "" : ", ", field.path, field.doc);
  }
  if (!missing.empty()) {
    fail(ExitCode::config, "{}: required, but not given: {}; add to the file or to the command line by --set KEY=VALUE",
         file.string(), missing);
  }
}

}  // namespace moextract::config
