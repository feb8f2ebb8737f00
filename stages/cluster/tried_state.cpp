#include "stages/cluster/tried_state.h"

#include <nlohmann/json.hpp>
#include <span>

#include "core/error.h"
#include "core/file.h"

namespace moextract::stages {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

constexpr int kVersion = 1;
constexpr std::size_t kNumbers = 4;

std::vector<cluster::TriedK> read(const fs::path& path, const std::string& key) {
  const json state = json::parse(read_text_file(path));
  if (state.at("version") != kVersion) throw std::invalid_argument("its format is of another version");
  if (state.at("key") != key) throw std::invalid_argument("it is of another artefact or layer");
  std::vector<cluster::TriedK> tried;
  for (const json& one : state.at("tried")) {
    tried.push_back(
        {.k = one.at("k"), .score = one.at("score"), .error = one.at("error"), .inertia = one.at("inertia")});
  }
  return tried;
}

}  // namespace

fs::path tried_state_path(const fs::path& folder, std::int64_t layer) {
  return folder / fmt::format("layer-{:03}.tried.json", layer);
}

std::vector<cluster::TriedK> TriedState::load(run::Context& context) {
  std::vector<double> numbers;
  if (context.comm.is_root() && fs::exists(path_)) {
    try {
      tried_ = read(path_, key_);
    } catch (const std::exception& error) {
      context.log->warn("{}: cannot be used ({}): every k is tried again", path_.string(), error.what());
      tried_.clear();
    }
    for (const cluster::TriedK& one : tried_)
      numbers.insert(numbers.end(), {static_cast<double>(one.k), one.score, one.error, one.inertia});
  }
  auto size = static_cast<std::int64_t>(numbers.size());
  context.comm.broadcast(std::span<std::int64_t>(&size, 1));
  numbers.resize(static_cast<std::size_t>(size));
  context.comm.broadcast(std::span<double>(numbers));
  tried_.clear();
  for (std::size_t i = 0; i < numbers.size(); i += kNumbers) {
    tried_.push_back({.k = static_cast<std::int64_t>(numbers[i]),
                      .score = numbers[i + 1],
                      .error = numbers[i + 2],
                      .inertia = numbers[i + 3]});
  }
  return tried_;
}

void TriedState::add(const cluster::TriedK& tried) {
  tried_.push_back(tried);
  json list = json::array();
  for (const cluster::TriedK& one : tried_)
    list.push_back({{"k", one.k}, {"score", one.score}, {"error", one.error}, {"inertia", one.inertia}});
  write_file_atomically(path_, json{{"version", kVersion}, {"key", key_}, {"tried", std::move(list)}}.dump() + "\n");
}

}  // namespace moextract::stages
