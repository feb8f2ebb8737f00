// Which class index a class name (a folder's name) has.
#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace moextract::data {

class ClassNames {
 public:
  /// Indices in the order of the sorted names.
  explicit ClassNames(const std::set<std::string>& names);
  /// Indices in the order of the file's lines; a line counts up to its first tab, empty lines are left out. Throws
  /// UserError (input) for a file without names and for a name that comes twice.
  explicit ClassNames(const std::filesystem::path& file);

  std::int64_t count() const { return static_cast<std::int64_t>(index_.size()); }
  /// Throws UserError (input) that names the member and its class if the class is unknown.
  std::int32_t index_of(const std::string& name, std::string_view member) const;

 private:
  std::string origin_;
  std::unordered_map<std::string, std::int32_t> index_;
};

/// A file name that is taken for a picture: .jpg, .jpeg or .png in any case, and no hidden file.
bool is_picture_name(std::string_view path);

/// Lines of a text without line ends and trailing blanks; the number of a line is its position + 1.
std::vector<std::string> read_lines(const std::filesystem::path& file);

}  // namespace moextract::data
