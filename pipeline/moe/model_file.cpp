#include "moe/model_file.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>
#include <string>

#include "core/error.h"
#include "moe/expert_mlp.h"

namespace moextract::moe {
namespace {

using model::TensorMap;
using Shape = std::vector<std::int64_t>;

/// Checks the tensors of one block's MLP against each other: they are indices into each other, and a wrong one would
/// read outside of a tensor.
class MlpTensorCheck {
 public:
  MlpTensorCheck(const std::filesystem::path& file, std::int64_t layer, std::int64_t width, const TensorMap& tensors)
      : file_(file), prefix_(model::mlp_prefix(layer)), width_(width), tensors_(tensors) {}

  void run() const {
    const std::int64_t rows = weights("fc1.weight", {-1, width_}).size(0);
    weights("fc1.bias", {rows});
    if (!tensors_.contains(prefix_ + "router.weight")) {
      weights("fc2.weight", {width_, rows});
      weights("fc2.bias", {width_});
      return;
    }
    std::int64_t seen = width_;
    if (tensors_.contains(prefix_ + "router.hidden.weight")) {
      seen = weights("router.hidden.weight", {-1, width_}).size(0);
      weights("router.hidden.bias", {seen});
    }
    const std::int64_t keys = weights("router.weight", {-1, seen}).size(0);
    if (tensors_.contains(prefix_ + "router.top")) {
      tensor("router.top", {2});
      integers("router.top", 0, 1000000);
      if (tensors_.at(prefix_ + "router.top").select(0, 0).item<std::int64_t>() < 1)
        damaged("router.top", "names no expert");
    }
    if (tensors_.contains(prefix_ + "router.top") || tensors_.contains(prefix_ + "router.temperature")) {
      weights("router.temperature", {1});
      if (!(tensors_.at(prefix_ + "router.temperature").item<double>() > 0))
        damaged("router.temperature", "is not positive");
    }
    if (tensors_.contains(prefix_ + "router.random")) {
      tensor("router.random", {2});
      integers("router.random", INT32_MIN, INT32_MAX);
    }
    if (tensors_.contains(prefix_ + "router.bias")) weights("router.bias", {keys});
    const bool has_prefix = tensors_.contains(prefix_ + "experts.prefix");
    const std::int64_t k = keys + (has_prefix ? 1 : 0);
    if (has_prefix) {
      tensor("experts.prefix", {2});
      integers("experts.prefix", 0, 1 << 20);
      if (tensors_.at(prefix_ + "experts.prefix").select(0, 0).item<std::int64_t>() != k - 1) {
        damaged("experts.prefix", "does not name the last expert");
      }
    }
    const bool bias_each = tensors_.contains(prefix_ + "fc2.bias") && tensors_.at(prefix_ + "fc2.bias").dim() == 2;
    weights("fc2.bias", bias_each ? Shape{k, width_} : Shape{width_});
    const std::int64_t entries = tensor("experts.neurons", {-1}).size(0);
    integers("experts.neurons", 0, 1 << 30);
    tensor("experts.offsets", {k + 1});
    integers("experts.offsets", 0, entries);
    const at::Tensor offsets = tensors_.at(prefix_ + "experts.offsets").to(at::kLong);
    const std::int64_t* o = offsets.const_data_ptr<std::int64_t>();
    bool ascending = o[0] == 0 && o[k] == entries;
    for (std::int64_t e = 0; e < k; ++e) ascending = ascending && o[e] < o[e + 1];
    if (!ascending) damaged("experts.offsets", "does not rise from 0 to the number of entries");
    if (tensors_.contains(prefix_ + "experts.fc2.weight")) {
      weights("experts.fc2.weight", {width_, entries});
      if (!tensors_.contains(prefix_ + "experts.rows")) damaged("experts.fc2.weight", "needs experts.rows beside it");
    } else {
      weights("fc2.weight", {width_, rows});
    }
    if (tensors_.contains(prefix_ + "experts.low_rank.left")) {
      const std::int64_t rank = weights("experts.low_rank.left", {k, width_, -1}).size(2);
      weights("experts.low_rank.right", {rank, entries});
      if (!tensors_.contains(prefix_ + "experts.rows"))
        damaged("experts.low_rank.left", "needs experts.rows beside it");
    }
    if (tensors_.contains(prefix_ + "experts.rows")) {
      tensor("experts.rows", {entries});
      integers("experts.rows", 0, rows - 1);
    } else if (rows != entries) {
      damaged("fc1.weight", "has another number of rows than experts.neurons has entries");
    }
  }

 private:
  [[noreturn]] void damaged(const std::string& name, const std::string& what) const {
    fail(ExitCode::model, "{}: tensor '{}{}' {}: the file is damaged; run the stage that wrote it again",
         file_.string(), prefix_, name, what);
  }
  /// -1 in `shape`: any length of at least 1.
  const at::Tensor& tensor(const std::string& name, const Shape& shape) const {
    const auto found = tensors_.find(prefix_ + name);
    if (found == tensors_.end()) {
      fail(ExitCode::model,
           "{}: tensor '{}{}' is missing. Is this the checkpoint of another model? See `moextract inspect {}`",
           file_.string(), prefix_, name, file_.string());
    }
    const Shape got = found->second.sizes().vec();
    bool fits = got.size() == shape.size();
    for (std::size_t i = 0; fits && i < shape.size(); ++i) fits = shape[i] == -1 ? got[i] >= 1 : got[i] == shape[i];
    if (!fits) {
      fail(ExitCode::model, "{}: tensor '{}{}' has shape [{}], but the model needs [{}] (-1: any)", file_.string(),
           prefix_, name, fmt::join(got, ", "), fmt::join(shape, ", "));
    }
    return found->second;
  }
  const at::Tensor& weights(const std::string& name, const Shape& shape) const {
    const at::Tensor& found = tensor(name, shape);
    if (!found.is_floating_point()) damaged(name, "holds integers where the model has weights");
    return found;
  }
  void integers(const std::string& name, std::int64_t low, std::int64_t high) const {
    const at::Tensor& values = tensors_.at(prefix_ + name);
    if (!at::isIntegralType(values.scalar_type(), false)) damaged(name, "does not hold integers");
    if (values.numel() > 0 && (values.min().item<std::int64_t>() < low || values.max().item<std::int64_t>() > high)) {
      damaged(name, fmt::format("holds a value outside {}..{}", low, high));
    }
  }

  const std::filesystem::path& file_;
  std::string prefix_;
  std::int64_t width_;
  const TensorMap& tensors_;
};

}  // namespace

LoadedModel load_model(const std::filesystem::path& path, const std::optional<model::ModelDescription>& wanted) {
  model::WeightsFile file = model::load_weights(path);
  LoadedModel loaded;
  loaded.path = path;
  loaded.tensors = std::move(file.tensors);
  loaded.metadata = std::move(file.metadata);
  const std::optional<model::ModelDescription> own = model::find_description(loaded.metadata, path.string());
  if (own) {
    loaded.description = *own;
    model::check_vit_tensors(path, own->vit, loaded.tensors, /*with_mlps=*/false);
    for (std::int64_t layer = 0; layer < own->vit.depth; ++layer) {
      MlpTensorCheck(path, layer, own->vit.width, loaded.tensors).run();
    }
  } else if (wanted) {
    loaded.description = *wanted;
    model::check_vit_tensors(path, wanted->vit, loaded.tensors, /*with_mlps=*/true);
  } else {
    fail(ExitCode::config,
         "{}: the file does not say what model it holds: give model.name (or its numbers) in the "
         "configuration",
         path.string());
  }
  return loaded;
}

void save_model(const std::filesystem::path& path, const model::ModelDescription& description, const TensorMap& tensors,
                model::Metadata metadata) {
  metadata[model::kDescriptionKey] = model::to_json(description).dump();
  metadata["format"] = "pt";  // what Python readers expect to find
  model::save_weights(path, tensors, metadata);
}

std::unique_ptr<model::Network> make_network(const model::ModelDescription& description, const TensorMap& tensors,
                                             model::Precision precision) {
  return std::make_unique<model::Vit>(description.vit, tensors, make_mlp, precision);
}

}  // namespace moextract::moe
