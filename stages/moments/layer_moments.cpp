#include "stages/moments/layer_moments.h"

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json_text.h"
#include "model/weights.h"

namespace moextract::stages {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

/// A file of the moments stage whose tensors are asked for by name and shape.
class MomentsFile {
 public:
  explicit MomentsFile(const fs::path& path) : path_(path), file_(model::load_weights(path, /*keep_double=*/true)) {}

  bool has(const char* name) const { return file_.tensors.contains(name); }
  const model::WeightsFile& content() const { return file_; }

  /// -1 in `shape`: any length of at least 1.
  const at::Tensor& get(const char* name, const std::vector<std::int64_t>& shape) const {
    const auto found = file_.tensors.find(name);
    if (found == file_.tensors.end())
      fail(ExitCode::input, "{}: is not a file of the moments stage: run it again", path_.string());
    const at::IntArrayRef got = found->second.sizes();
    bool fits = got.size() == shape.size();
    for (std::size_t i = 0; fits && i < shape.size(); ++i) fits = shape[i] == -1 ? got[i] >= 1 : got[i] == shape[i];
    if (!fits) damaged(name, "does not fit the others");
    return found->second;
  }
  at::Tensor numbers(const char* name, const std::vector<std::int64_t>& shape) const {
    const at::Tensor& found = get(name, shape);
    if (!found.is_floating_point()) damaged(name, "does not hold floating-point numbers");
    return found.to(at::kDouble);
  }
  /// Not negative.
  at::Tensor counts(const char* name, const std::vector<std::int64_t>& shape) const {
    const at::Tensor& found = get(name, shape);
    if (found.scalar_type() != at::kLong || found.min().item<std::int64_t>() < 0) damaged(name, "holds no counts");
    return found;
  }

  /// Experts whose scores the router gives, checked against each other.
  moe::RouterWeights router() const {
    const at::Tensor& keys = get("router.weight", {-1, -1});
    const std::int64_t k = keys.size(0);
    weights("router.weight", {k, keys.size(1)});
    if (has("router.bias")) weights("router.bias", {k});
    if (has("router.hidden.weight")) {
      weights("router.hidden.weight", {keys.size(1), -1});
      weights("router.hidden.bias", {keys.size(1)});
    }
    if (has("router.top")) {
      const at::Tensor& top = integers("router.top");
      const auto most = top[0].item<std::int64_t>(), tau = top[1].item<std::int64_t>();
      if (most < 1 || tau < 0 || tau > 1'000'000) damaged("router.top", "holds a value that cannot be");
    }
    if (has("router.top") || has("router.temperature")) weights("router.temperature", {1});
    if (has("router.random")) integers("router.random");
    return moe::get_router("", file_.tensors);
  }

  [[noreturn]] void damaged(const char* name, const char* what) const {
    fail(ExitCode::input, "{}: tensor '{}' {}: run the moments stage again", path_.string(), name, what);
  }

 private:
  void weights(const char* name, const std::vector<std::int64_t>& shape) const {
    if (get(name, shape).scalar_type() != at::kFloat) damaged(name, "does not hold float32 numbers");
  }
  const at::Tensor& integers(const char* name) const {
    const at::Tensor& found = get(name, {2});
    if (found.scalar_type() != at::kInt) damaged(name, "does not hold int32 numbers");
    return found;
  }

  fs::path path_;
  model::WeightsFile file_;
};

}  // namespace

fs::path layer_moments_path(const fs::path& folder, std::int64_t layer) {
  return folder / fmt::format("layer-{:03}.safetensors", layer);
}

LayerMoments load_layer_moments(const fs::path& folder, std::int64_t layer) {
  const MomentsFile file(layer_moments_path(folder, layer));
  LayerMoments moments;
  moments.router = file.router();
  const at::Tensor facts = file.numbers("router.facts", {2});
  moments.router.temperature = facts[0].item<double>();
  moments.agreement = facts[1].item<double>();
  if (!(moments.router.temperature > 0)) file.damaged("router.facts", "holds no positive temperature");
  moments.mean_gradient = file.numbers("mean_gradient", {1}).item<double>();
  const bool full = file.has("covariance");
  const at::Tensor count = file.counts("count", {-1});
  const std::int64_t experts = count.numel(), k = moments.k();
  if (experts != k && experts != k + 1) file.damaged("count", "does not fit the router's experts");
  moments.prefix_apart = experts == k + 1;
  const at::Tensor weight = file.numbers("weight", {experts}), mean = file.numbers("mean", {experts, -1});
  const std::int64_t hidden = mean.size(1);
  const at::Tensor spread =
      full ? file.numbers("covariance", {experts, hidden, hidden}) : file.numbers("variance", {experts, hidden});
  for (std::int64_t e = 0; e < experts; ++e) {
    moe::SecondMoments m;
    m.count = count[e].item<std::int64_t>();
    m.weight = weight[e].item<double>();
    m.mean = mean[e];
    if (full) m.covariance = spread[e];
    m.variance = full ? m.covariance.diagonal().clamp_min(0) : spread[e];
    moments.experts.push_back(std::move(m));
  }
  // Shares of all tokens of the layer: routed ones as they were dealt (to several experts, perhaps), and the prefix.
  const double routed = static_cast<double>(file.counts("routed_tokens", {1}).item<std::int64_t>());
  const double prefix = moments.prefix_apart ? static_cast<double>(moments.experts.back().count) : 0.0;
  for (const moe::SecondMoments& m : moments.experts)
    moments.token_share.push_back(routed + prefix > 0 ? static_cast<double>(m.count) / (routed + prefix) : 0.0);
  const model::Metadata& metadata = file.content().metadata;
  if (const auto said = metadata.find(kMomentsIdentityKey); said != metadata.end()) {
    const json facts_said = parse_json(said->second);
    const auto text_of = [&](const char* name) {
      const auto found = facts_said.find(name);
      return found != facts_said.end() && found->is_string() ? found->get<std::string>() : std::string();
    };
    if (facts_said.is_object()) {
      moments.identity = text_of("model");
      moments.tap = text_of("tap");
    }
  }
  if (file.has("gradient_directions")) {
    const std::int64_t width = file.get("gradient_directions", {experts, -1, -1}).size(1);
    moments.directions = file.numbers("gradient_directions", {experts, width, width});
  }
  return moments;
}

}  // namespace moextract::stages
