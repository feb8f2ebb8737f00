#include "config/yaml_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "config/reader.h"
#include "config/yaml_documents.h"
#include "core/error.h"
#include "core/file.h"

namespace moextract::config {
namespace fs = std::filesystem;
namespace {

std::string no_such_file(const fs::path& file) {
  const fs::path folder = file.has_parent_path() ? file.parent_path() : fs::path(".");
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string extension = entry->path().extension().string();
    if (extension == ".yaml" || extension == ".yml") names.push_back(entry->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  const std::string near = nearest_name(file.filename().string(), names);
  const std::string hint = near.empty() ? "" : "; did you mean " + (file.parent_path() / near).string() + "?";
  return fmt::format("{}: no such file{}", file.string(), hint);
}

std::string read_config_text(const fs::path& file) {
  std::error_code error;
  const fs::file_status status = fs::status(file, error);
  if (status.type() == fs::file_type::not_found) throw UserError(ExitCode::config, no_such_file(file));
  if (status.type() == fs::file_type::directory) {
    fail(ExitCode::config, "{}: is a folder; give the YAML file itself", file.string());
  }
  if (status.type() == fs::file_type::character || status.type() == fs::file_type::block) {
    fail(ExitCode::config, "{}: is a device, which may have no end; give a YAML file", file.string());
  }
  try {
    return read_text_file(file);
  } catch (const UserError& failure) {
    throw UserError(ExitCode::config, failure.what());
  }
}

YAML::Mark mark_at(std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, offset);
  const std::size_t line_start = before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1;
  YAML::Mark mark;
  mark.pos = static_cast<int>(offset);
  mark.line = static_cast<int>(std::count(before.begin(), before.end(), '\n'));
  mark.column = static_cast<int>(offset - line_start);
  return mark;
}

/// yaml-cpp's message for a tab is about whatever it met next.
bool is_indented_by_tab(const std::string& text, int line) {
  std::size_t at = 0;
  for (; line > 0 && at != std::string::npos; --line) {
    at = text.find('\n', at);
    if (at != std::string::npos) ++at;
  }
  if (at == std::string::npos) return false;
  const std::size_t first = text.find_first_not_of(' ', at);
  return first != std::string::npos && text[first] == '\t';
}

std::string hint_for(std::string_view problem) {
  if (problem == "illegal map value") return "; quote a value that holds ': '";
  if (problem == "bad file") return "; lists or sections are nested too deeply";
  if (problem == "illegal EOF in scalar") return "; a quote is not closed";
  if (problem == "end of sequence flow not found") return "; a '[' before this place is not closed";
  if (problem == "end of map flow not found") return "; a '{' before this place is not closed";
  if (problem == "end of map not found" || problem == "end of sequence not found") {
    return "; keys of one section stand in the same column";
  }
  return "";
}

std::vector<YAML::Node> parse(const fs::path& file, const std::string& text) {
  try {
    // yaml-cpp accepts a quote that is never closed, and takes all that follows for its text, if the file ends with a
    // line end. Behind this comment it does not.
    return load_documents(text + "\n#");
  } catch (const YAML::Exception& failure) {
    const std::string hint =
        is_indented_by_tab(text, failure.mark.line) ? "; indent with spaces instead of tabs" : hint_for(failure.msg);
    const std::size_t end = text.find_last_not_of(" \r\n") + 1;  // our comment is not a place in the file
    const YAML::Mark mark = failure.mark.pos > static_cast<int>(end) ? mark_at(text, end) : failure.mark;
    fail(ExitCode::config, "{}: not valid YAML: {}{}", position(file, mark), failure.msg, hint);
  }
}

}  // namespace

std::size_t first_non_text_byte(std::string_view text) {
  const auto byte = [&](std::size_t at) { return at < text.size() ? static_cast<unsigned char>(text[at]) : 0u; };
  for (std::size_t at = 0; at < text.size();) {
    const unsigned first = byte(at);
    std::size_t length = 0;
    unsigned code = 0, smallest = 0;
    if (first < 0x80) {
      // yaml-cpp takes 0x04 for the end of the file and would silently leave the rest out.
      if ((first < 0x20 && first != '\t' && first != '\n' && first != '\r') || first == 0x7f) return at;
      ++at;
      continue;
    }
    if ((first & 0xe0) == 0xc0) {
      length = 2, code = first & 0x1f, smallest = 0x80;
    } else if ((first & 0xf0) == 0xe0) {
      length = 3, code = first & 0x0f, smallest = 0x800;
    } else if ((first & 0xf8) == 0xf0) {
      length = 4, code = first & 0x07, smallest = 0x10000;
    } else {
      return at;
    }
    for (std::size_t i = 1; i < length; ++i) {
      if ((byte(at + i) & 0xc0) != 0x80) return at;
      code = (code << 6) | (byte(at + i) & 0x3f);
    }
    if (code < smallest || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return at;
    at += length;
  }
  return std::string_view::npos;
}

std::string position(const fs::path& file, const YAML::Mark& mark) {
  if (mark.line < 0 || mark.column < 0) return file.string();
  return fmt::format("{}:{}:{}", file.string(), mark.line + 1, mark.column + 1);
}

YAML::Node load_yaml_file(const fs::path& file) {
  const std::string text = read_config_text(file);
  if (const std::size_t bad = first_non_text_byte(text); bad != std::string_view::npos) {
    fail(ExitCode::config, "{}: byte 0x{:02x} is not UTF-8 text; save the file as UTF-8",
         position(file, mark_at(text, bad)), static_cast<unsigned char>(text[bad]));
  }
  const std::vector<YAML::Node> documents = parse(file, text);
  if (documents.size() > 1) {
    fail(ExitCode::config, "{}: holds {} YAML documents; leave one and no other '---'", file.string(),
         documents.size());
  }
  if (documents.empty() || documents.front().IsNull()) {
    fail(ExitCode::config, "{}: holds no settings", file.string());
  }
  const YAML::Node& root = documents.front();
  if (!root.IsMap()) {
    fail(ExitCode::config, "{}: expected keys and values (key: value), got {}", position(file, root.Mark()),
         root.IsSequence() ? "a list" : "text");
  }
  return root;
}

}  // namespace moextract::config
