#include "stages/evaluate/routing_counts.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/error.h"
#include "model/weights.h"

namespace moextract::stages {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

constexpr double kEntropyUnit = 0x1.0p-32;  // of a bit
constexpr std::size_t kClassesTold = 5;     // of an expert

/// Bits of the distribution that the counts are in proportion to.
double entropy_of(std::span<const std::int64_t> counts) {
  double total = 0, sum = 0;
  for (const std::int64_t n : counts) total += static_cast<double>(n);
  for (const std::int64_t n : counts) {
    if (n > 0) sum -= static_cast<double>(n) / total * std::log2(static_cast<double>(n) / total);
  }
  return sum;
}

/// I(expert; column) in bits of counts [experts, columns], over tokens: H(expert) + H(column) - H(expert, column).
double information(std::span<const std::int64_t> counts, std::int64_t columns) {
  std::vector<std::int64_t> of_column(static_cast<std::size_t>(columns), 0),
      of_expert(counts.size() / static_cast<std::size_t>(columns), 0);
  for (std::size_t i = 0; i < counts.size(); ++i) {
    of_column[i % of_column.size()] += counts[i];
    of_expert[i / of_column.size()] += counts[i];
  }
  return std::max(0.0, entropy_of(of_expert) + entropy_of(of_column) - entropy_of(counts));
}

/// The first rows of counts [experts, columns].
std::span<const std::int64_t> rows_of(const std::vector<std::int64_t>& counts, std::int64_t rows,
                                      std::int64_t columns) {
  return std::span(counts).first(static_cast<std::size_t>(rows * columns));
}

json telling_classes(std::span<const std::int64_t> own, std::span<const std::int64_t> all) {
  const auto sum = [](std::span<const std::int64_t> counts) {
    return static_cast<double>(std::accumulate(counts.begin(), counts.end(), std::int64_t{0}));
  };
  const double own_total = sum(own), total = sum(all);
  std::vector<std::pair<double, std::size_t>> told;  // (-contribution, class): the lower class first on ties
  for (std::size_t c = 0; c < own.size(); ++c) {
    if (own[c] == 0) continue;
    const double p = static_cast<double>(own[c]) / own_total, q = static_cast<double>(all[c]) / total;
    if (p > q) told.emplace_back(-p * std::log2(p / q), c);
  }
  std::sort(told.begin(), told.end());
  told.resize(std::min(told.size(), kClassesTold));
  json list = json::array();
  for (const auto& [score, c] : told) {
    const double lift = static_cast<double>(own[c]) / own_total * total / static_cast<double>(all[c]);
    list.push_back({{"class", c}, {"tokens", own[c]}, {"lift", lift}});
  }
  return list;
}

}  // namespace

std::vector<std::int64_t> RoutingCounts::tokens() const {
  std::vector<std::int64_t> sums;
  for (std::int64_t e = 0; e < experts; ++e) {
    const auto first = by_position.begin() + e * positions;
    sums.push_back(std::accumulate(first, first + positions, std::int64_t{0}));
  }
  return sums;
}

double RoutingCounts::usage_entropy() const {
  const std::vector<std::int64_t> all = tokens();
  return entropy_of(std::span(all).first(static_cast<std::size_t>(routed_experts)));
}

double RoutingCounts::class_information() const {
  return information(rows_of(by_class, routed_experts, classes), classes);
}

double RoutingCounts::position_information() const {
  return information(rows_of(by_position, routed_experts, positions), positions);
}

double RoutingCounts::router_entropy() const {
  return static_cast<double>(entropy) * kEntropyUnit / static_cast<double>(std::max<std::int64_t>(routed, 1));
}

std::int64_t entropy_units(double bits) {
  return std::llround(bits / kEntropyUnit);
}

void save_routing(const fs::path& path, std::span<const RoutingCounts> layers) {
  model::TensorMap tensors;
  const auto add = [&](const std::string& name, const std::vector<std::int64_t>& values, std::int64_t rows,
                       std::int64_t columns) {
    at::Tensor tensor = at::empty({rows, columns}, at::kLong);
    std::copy(values.begin(), values.end(), tensor.data_ptr<std::int64_t>());
    tensors.emplace(name, tensor);
  };
  for (std::size_t l = 0; l < layers.size(); ++l) {
    const RoutingCounts& layer = layers[l];
    if (layer.experts == 0) continue;
    add(fmt::format("layer.{}.by_class", l), layer.by_class, layer.experts, layer.classes);
    add(fmt::format("layer.{}.by_position", l), layer.by_position, layer.experts, layer.positions);
  }
  if (!tensors.empty()) model::save_weights(path, tensors, {});
}

std::vector<RoutingCounts> load_routing(const fs::path& path, const std::vector<bool>& prefix_apart) {
  std::vector<RoutingCounts> layers(prefix_apart.size());
  if (!fs::exists(path)) return layers;  // no layer has experts
  const model::WeightsFile file = model::load_weights(path);
  for (std::size_t l = 0; l < layers.size(); ++l) {
    const auto by_class = file.tensors.find(fmt::format("layer.{}.by_class", l)),
               by_position = file.tensors.find(fmt::format("layer.{}.by_position", l));
    if (by_class == file.tensors.end() && by_position == file.tensors.end()) continue;
    const std::int64_t apart = prefix_apart[l] ? 1 : 0;
    const auto fits = [&](auto found) {
      return found != file.tensors.end() && found->second.dim() == 2 && found->second.scalar_type() == at::kLong &&
             found->second.size(0) > apart && found->second.size(1) > 0;
    };
    if (!fits(by_class) || !fits(by_position) || by_class->second.size(0) != by_position->second.size(0))
      fail(ExitCode::input, "{}: the counts of layer {} do not fit: run the evaluate stage again", path.string(), l);
    RoutingCounts& layer = layers[l];
    layer.experts = by_class->second.size(0);
    layer.routed_experts = layer.experts - apart;
    layer.classes = by_class->second.size(1);
    layer.positions = by_position->second.size(1);
    const auto take = [](const at::Tensor& tensor) {
      const at::Tensor whole = tensor.contiguous();
      const std::int64_t* first = whole.const_data_ptr<std::int64_t>();
      return std::vector<std::int64_t>(first, first + whole.numel());
    };
    layer.by_class = take(by_class->second);
    layer.by_position = take(by_position->second);
  }
  return layers;
}

json specialisation(const RoutingCounts& counts, const model::VitParams& vit) {
  const std::int64_t prefix = vit.prefix_tokens();
  if (counts.experts == 0 || counts.positions != vit.tokens()) return nullptr;
  std::vector<std::int64_t> of_class(static_cast<std::size_t>(counts.classes), 0);
  const auto row = [](const std::vector<std::int64_t>& all, std::int64_t e, std::int64_t columns) {
    return std::span(all).subspan(static_cast<std::size_t>(e * columns), static_cast<std::size_t>(columns));
  };
  for (std::int64_t e = 0; e < counts.routed_experts; ++e) {
    const auto own = row(counts.by_class, e, counts.classes);
    for (std::size_t c = 0; c < own.size(); ++c) of_class[c] += own[c];
  }
  json experts = json::array();
  for (std::int64_t e = 0; e < counts.routed_experts; ++e) {
    const auto patches = row(counts.by_position, e, counts.positions).subspan(static_cast<std::size_t>(prefix));
    experts.push_back({{"positions", std::vector<std::int64_t>(patches.begin(), patches.end())},
                       {"classes", telling_classes(row(counts.by_class, e, counts.classes), of_class)}});
  }
  return {{"grid", vit.image_size / vit.patch_size}, {"experts", std::move(experts)}};
}

}  // namespace moextract::stages
