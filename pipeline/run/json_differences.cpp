#include "run/json_differences.h"

#include <fmt/format.h>

#include <set>

namespace moextract::run {
using nlohmann::json;
namespace {

std::string dotted(std::string pointer) {
  if (!pointer.empty()) pointer.erase(0, 1);
  for (char& c : pointer) c = c == '/' ? '.' : c;
  return pointer;
}

}  // namespace

std::vector<std::string> json_differences(const json& there, const json& now) {
  const json a = there.flatten(), b = now.flatten();
  std::set<std::string> keys;
  for (const auto& [key, value] : a.items()) keys.insert(key);
  for (const auto& [key, value] : b.items()) keys.insert(key);
  std::vector<std::string> lines;
  for (const std::string& key : keys) {
    const std::string old_value = a.contains(key) ? a.at(key).dump() : "nothing";
    const std::string new_value = b.contains(key) ? b.at(key).dump() : "nothing";
    if (old_value != new_value)
      lines.push_back(fmt::format("{} ({} there, {} now)", dotted(key), old_value, new_value));
  }
  return lines;
}

}  // namespace moextract::run
