#include "data/member_list.h"

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <string_view>
#include <unordered_map>

#include "core/error.h"
#include "core/random.h"
#include "data/class_names.h"

namespace moextract::data {
namespace {

constexpr std::uint64_t kShufflePurpose = 0x73687566666c65;

std::string_view file_name(std::string_view id) {
  return id.substr(id.rfind('/') + 1);
}

/// The same file name in another folder (a prefix too many or too few), else the longest common beginning.
std::string nearest(std::string_view wanted, std::span<const std::string> ids) {
  std::string_view best;
  std::size_t best_length = 0;
  for (const std::string& id : ids) {
    if (file_name(id) == file_name(wanted)) return id;
    const auto common = std::mismatch(wanted.begin(), wanted.end(), id.begin(), id.end()).first - wanted.begin();
    if (best.empty() || static_cast<std::size_t>(common) > best_length) {
      best = id;
      best_length = static_cast<std::size_t>(common);
    }
  }
  return std::string(best);
}

std::vector<std::int64_t> listed(std::span<const std::string> ids, const ImageSetParams& params) {
  std::unordered_map<std::string_view, std::int64_t> position;
  for (std::size_t i = 0; i < ids.size(); ++i) position.emplace(ids[i], static_cast<std::int64_t>(i));
  const std::vector<std::string> lines = read_lines(params.list);
  std::vector<std::int64_t> chosen;
  std::vector<std::size_t> line_of(ids.size(), 0);
  for (std::size_t line = 0; line < lines.size(); ++line) {
    std::string_view name = lines[line];
    while (name.starts_with("./")) name.remove_prefix(2);
    if (name.empty()) continue;
    const auto found = position.find(name);
    if (found == position.end()) {
      fail(ExitCode::input, "{}:{}: '{}' is not a member of {}; the nearest of its {} members is '{}'",
           params.list.string(), line + 1, name, params.source.string(), ids.size(), nearest(name, ids));
    }
    std::size_t& earlier = line_of[static_cast<std::size_t>(found->second)];
    if (earlier != 0) {
      fail(ExitCode::input, "{}:{}: '{}' stands in line {} already", params.list.string(), line + 1, name, earlier);
    }
    earlier = line + 1;
    chosen.push_back(found->second);
  }
  if (chosen.empty()) fail(ExitCode::input, "{}: the list names no members", params.list.string());
  return chosen;
}

}  // namespace

std::vector<std::int64_t> select_members(std::span<const std::string> ids, const ImageSetParams& params) {
  const std::string source = params.source.string();
  if (ids.empty()) fail(ExitCode::input, "{}: holds no pictures", source);
  if (params.first < 0 || params.count < 0) {
    fail(ExitCode::input, "{}: first = {} and count = {} must not be negative", source, params.first, params.count);
  }
  std::vector<std::int64_t> chosen;
  if (params.list.empty()) {
    chosen.resize(ids.size());
    std::iota(chosen.begin(), chosen.end(), 0);
  } else {
    chosen = listed(ids, params);
  }
  const auto size = static_cast<std::int64_t>(chosen.size());
  if (params.shuffle_seed >= 0) {
    RandomStream stream(static_cast<std::uint64_t>(params.shuffle_seed), kShufflePurpose);
    const std::vector<std::int64_t> order = stream.permutation(size);
    std::vector<std::int64_t> shuffled;
    for (const std::int64_t i : order) shuffled.push_back(chosen[static_cast<std::size_t>(i)]);
    chosen = std::move(shuffled);
  }
  if (params.first >= size) {
    fail(ExitCode::input, "{}: first = {} skips all of its {} pictures", source, params.first, size);
  }
  const std::int64_t left = size - params.first;
  const std::int64_t count = params.count == 0 ? left : std::min(params.count, left);
  return {chosen.begin() + params.first, chosen.begin() + params.first + count};
}

}  // namespace moextract::data
