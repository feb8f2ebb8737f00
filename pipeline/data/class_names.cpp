#include "data/class_names.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <sstream>

#include "core/error.h"
#include "core/file.h"

namespace moextract::data {

ClassNames::ClassNames(const std::set<std::string>& names) {
  for (const std::string& name : names) index_.emplace(name, static_cast<std::int32_t>(index_.size()));
}

ClassNames::ClassNames(const std::filesystem::path& file) : origin_(file.string()) {
  const std::vector<std::string> lines = read_lines(file);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const std::string name = lines[i].substr(0, lines[i].find('\t'));
    if (name.empty()) continue;
    if (!index_.emplace(name, static_cast<std::int32_t>(index_.size())).second) {
      fail(ExitCode::input, "{}:{}: the class '{}' stands twice in this file", origin_, i + 1, name);
    }
  }
  if (index_.empty()) fail(ExitCode::input, "{}: holds no class names; it needs one a line, in index order", origin_);
}

std::int32_t ClassNames::index_of(const std::string& name, std::string_view member) const {
  const auto found = index_.find(name);
  if (found == index_.end()) {
    fail(ExitCode::input,
         "{}: its class '{}' is not among the {} of {}; add it there or leave the member out by a list", member, name,
         count(), origin_);
  }
  return found->second;
}

bool is_picture_name(std::string_view path) {
  constexpr std::array<std::string_view, 3> kExtensions{".jpg", ".jpeg", ".png"};
  const std::string_view name = path.substr(path.rfind('/') + 1);
  const std::size_t dot = name.rfind('.');
  if (dot == name.npos || name.starts_with('.')) return false;  // "._x.jpg" is macOS's side file
  const std::string_view extension = name.substr(dot);
  return std::any_of(kExtensions.begin(), kExtensions.end(), [&](std::string_view known) {
    return std::equal(known.begin(), known.end(), extension.begin(), extension.end(),
                      [](char k, char c) { return k == std::tolower(static_cast<unsigned char>(c)); });
  });
}

std::vector<std::string> read_lines(const std::filesystem::path& file) {
  std::istringstream text(read_text_file(file));
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ' || line.back() == '\t')) line.pop_back();
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace moextract::data
