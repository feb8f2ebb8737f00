// Model files with experts: the container is sound, but offsets, neurons, rows, low-rank factors, routers and the
// expert of the class token are not. What the check of load_model lets pass must be usable.
#include <ATen/Parallel.h>

#include "fuzz_case.h"
#include "model/vit.h"
#include "moe/expert_mlp.h"
#include "moe/model_file.h"
#include "tensor_edits.h"

using namespace moextract;

namespace {

const model::ModelDescription& description() {
  static const model::ModelDescription small = [] {
    model::ModelDescription d;
    d.name = "small";
    d.vit = {
        .image_size = 4, .patch_size = 2, .channels = 1, .width = 4, .depth = 1, .heads = 2, .hidden = 6, .classes = 2};
    d.preprocess = {.resize = 0, .crop = 4, .channels = 1};
    return d;
  }();
  return small;
}

at::Tensor integers(const std::vector<std::int64_t>& values) {
  return at::tensor(values, at::kLong).to(at::kInt);
}

/// A good layer of one to three experts of the kinds that the bytes choose.
std::map<std::string, at::Tensor> good_layer(FuzzedDataProvider& input) {
  const std::int64_t d = description().vit.width, hidden = description().vit.hidden;
  const std::int64_t keys = input.ConsumeIntegralInRange<std::int64_t>(1, 3);
  const bool prefix = input.ConsumeBool(), shared = input.ConsumeBool();
  const std::int64_t k = keys + (prefix ? 1 : 0);
  std::vector<std::int64_t> offsets{0}, neurons;
  for (std::int64_t e = 0; e < k; ++e) {
    const std::int64_t size = input.ConsumeIntegralInRange<std::int64_t>(1, 4);
    for (std::int64_t n = 0; n < size; ++n) neurons.push_back((e + n) % hidden);
    offsets.push_back(offsets.back() + size);
  }
  const std::int64_t entries = offsets.back();
  const std::int64_t rows = shared ? hidden : entries;
  std::map<std::string, at::Tensor> layer;
  const auto some = [&](std::vector<std::int64_t> shape) { return at::full(shape, 0.25, at::kFloat); };
  layer["fc1.weight"] = some({rows, d});
  layer["fc1.bias"] = some({rows});
  layer["fc2.bias"] = input.ConsumeBool() ? some({k, d}) : some({d});
  layer["experts.offsets"] = integers(offsets);
  layer["experts.neurons"] = integers(neurons);
  layer["fc2.weight"] = some({d, rows});
  if (shared) {
    layer["experts.rows"] = integers(neurons);
    switch (input.ConsumeIntegralInRange(0, 2)) {
      case 0:
        break;
      case 1:
        layer.erase("fc2.weight");
        layer["experts.fc2.weight"] = some({d, entries});
        break;
      default:
        layer["experts.low_rank.left"] = some({k, d, 2});
        layer["experts.low_rank.right"] = some({2, entries});
    }
  }
  if (prefix) layer["experts.prefix"] = integers({k - 1, 1});
  std::int64_t seen = d;
  if (input.ConsumeBool()) {
    seen = 3;
    layer["router.hidden.weight"] = some({seen, d});
    layer["router.hidden.bias"] = some({seen});
  }
  layer["router.weight"] = some({keys, seen});
  if (input.ConsumeBool()) layer["router.bias"] = some({keys});
  if (input.ConsumeBool()) {
    layer["router.top"] = integers({2, 500'000});
    layer["router.temperature"] = some({1});
  }
  if (input.ConsumeIntegralInRange(0, 3) == 0) layer["router.random"] = integers({7, 1});
  return layer;
}

void use_model(const std::filesystem::path& path) {
  const moe::LoadedModel model = moe::load_model(path, std::nullopt);
  const moe::LayerSummary summary = moe::summarise_layer(0, model.tensors);
  const auto overlaps = moe::expert_overlaps(0, model.tensors);
  MOEX_ASSERT(static_cast<std::int64_t>(overlaps.size()) == summary.k, "every expert has its overlaps");
  const auto mlp = moe::make_mlp(0, model.tensors);
  const at::Tensor x = at::linspace(-1, 1, 2 * 5 * 4).to(at::kFloat).view({2, 5, 4});
  const at::Tensor y = mlp->forward(x, nullptr);
  MOEX_ASSERT(y.sizes() == x.sizes(), "an MLP keeps the shape");
  const std::vector<double> share(static_cast<std::size_t>(mlp->experts()), 0.5);
  static_cast<void>(mlp->macs_per_token(share));
  const auto network = moe::make_network(model.description, model.tensors);
  static_cast<void>(network->logits(at::zeros({1, 1, 4, 4})));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool once = (at::set_num_threads(1), true);
  static_cast<void>(once);
  static const model::TensorMap whole = model::initial_vit_tensors(description().vit, 1);
  FuzzedDataProvider input(data, size);
  const std::string prefix = model::mlp_prefix(0);
  model::TensorMap tensors = whole;
  std::erase_if(tensors, [&](const auto& named) { return named.first.starts_with(prefix); });
  const fuzz::RawTensors rest = fuzz::raw(tensors);
  fuzz::RawTensors layer;
  for (auto& [name, tensor] : fuzz::raw(good_layer(input))) layer[prefix + name] = std::move(tensor);
  for (int changes = 0; changes < 3 && input.remaining_bytes() > 0; ++changes) fuzz::change_tensor(input, layer);
  layer.insert(rest.begin(), rest.end());
  const std::vector<std::uint8_t> bytes =
      fuzz::safetensors_bytes(layer, {{model::kDescriptionKey, model::to_json(description()).dump()}});
  const fuzz::InputFile file(bytes);
  fuzz::accept_or_refuse([&] { use_model(file.path()); });
  return 0;
}
