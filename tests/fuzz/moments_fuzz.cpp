// Files of the moments stage whose container is sound and whose statistics are not. What is accepted fits together.
#include <ATen/Parallel.h>

#include "fuzz_case.h"
#include "stages/moments/layer_moments.h"
#include "tensor_edits.h"

using namespace moextract;

namespace {

/// Statistics of two or three experts, of the kinds that the bytes choose.
std::map<std::string, at::Tensor> good_layer(FuzzedDataProvider& input) {
  constexpr std::int64_t kKeys = 2, kWidth = 3, kHidden = 4;
  const std::int64_t experts = kKeys + (input.ConsumeBool() ? 1 : 0);
  const auto some = [](std::vector<std::int64_t> shape, at::ScalarType type = at::kDouble) {
    return at::full(shape, type == at::kLong ? 3 : 0.5, type);
  };
  std::map<std::string, at::Tensor> layer{{"count", some({experts}, at::kLong)},
                                          {"weight", some({experts})},
                                          {"mean", some({experts, kHidden})},
                                          {"mean_gradient", some({1})},
                                          {"routed_tokens", some({1}, at::kLong)},
                                          {"router.facts", some({2})},
                                          {"router.weight", some({kKeys, kWidth}, at::kFloat)}};
  if (input.ConsumeBool()) {
    layer["covariance"] = some({experts, kHidden, kHidden});
  } else {
    layer["variance"] = some({experts, kHidden});
  }
  if (input.ConsumeBool()) layer["gradient_directions"] = some({experts, kWidth, kWidth});
  if (input.ConsumeBool()) layer["router.bias"] = some({kKeys}, at::kFloat);
  if (input.ConsumeBool()) {
    layer["router.hidden.weight"] = some({kWidth, kWidth}, at::kFloat);
    layer["router.hidden.bias"] = some({kWidth}, at::kFloat);
  }
  if (input.ConsumeBool()) {
    layer["router.top"] = at::tensor(std::vector<std::int64_t>{2, 500'000}, at::kLong).to(at::kInt);
    layer["router.temperature"] = some({1}, at::kFloat);
  }
  if (input.ConsumeIntegralInRange(0, 3) == 0) layer["router.random"] = some({2}, at::kLong).to(at::kInt);
  return layer;
}

void use_moments(const std::filesystem::path& folder) {
  const stages::LayerMoments moments = stages::load_layer_moments(folder, 0);
  const auto experts = static_cast<std::int64_t>(moments.experts.size());
  MOEX_ASSERT(experts == moments.k() + (moments.prefix_apart ? 1 : 0), "statistics of every expert");
  MOEX_ASSERT(static_cast<std::int64_t>(moments.token_share.size()) == experts, "a share of every expert");
  const std::int64_t hidden = moments.experts.front().mean.numel();
  for (const moe::SecondMoments& m : moments.experts) {
    MOEX_ASSERT(m.count >= 0, "tokens are counted");
    MOEX_ASSERT(m.mean.dim() == 1 && m.mean.numel() == hidden, "means of one width");
    MOEX_ASSERT(m.variance.dim() == 1 && m.variance.numel() == hidden, "variances of the same");
    if (m.covariance.defined())
      MOEX_ASSERT(m.covariance.sizes() == at::IntArrayRef({hidden, hidden}), "covariances of the same");
    MOEX_ASSERT(at::isfinite(m.mean + m.variance).all().item<bool>(), "finite");
  }
  if (moments.directions.defined())
    MOEX_ASSERT(moments.directions.dim() == 3 && moments.directions.size(0) == experts, "directions of every expert");
  const at::Tensor x = at::linspace(-1, 1, 5 * moments.router.width()).to(at::kFloat).view({5, moments.router.width()});
  const moe::Choice choice = moe::choose_experts(moments.router, x);
  MOEX_ASSERT(choice.expert.max().item<std::int64_t>() < moments.k(), "tokens go to experts that are there");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool once = (at::set_num_threads(1), true);
  static_cast<void>(once);
  FuzzedDataProvider input(data, size);
  std::map<std::string, std::string> metadata{
      {stages::kMomentsIdentityKey, input.ConsumeBool() ? R"({"model":"m","tap":"h"})" : R"({"model":3,"tap":[]})"}};
  fuzz::RawTensors layer = fuzz::raw(good_layer(input));
  for (int changes = 0; changes < 3 && input.remaining_bytes() > 0; ++changes) {
    if (input.ConsumeIntegralInRange(0, 15) == 0) {
      metadata.begin()->second = input.ConsumeRandomLengthString(64);
    } else {
      fuzz::change_tensor(input, layer);
    }
  }
  // A header is UTF-8.
  for (char& c : metadata.begin()->second) c = static_cast<char>(c & 0x7f);
  const std::vector<std::uint8_t> bytes = fuzz::safetensors_bytes(layer, metadata);
  fuzz::put(stages::layer_moments_path(fuzz::scratch_folder(), 0),
            {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  fuzz::accept_or_refuse([&] { use_moments(fuzz::scratch_folder()); });
  return 0;
}
