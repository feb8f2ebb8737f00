#include "stages/evaluate/evaluate.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <mutex>

#include "core/error.h"
#include "core/file.h"
#include "model/device_tensors.h"
#include "model/vit.h"
#include "model/weights.h"
#include "moe/device_model.h"
#include "moe/expert_mlp.h"
#include "run/progress.h"
#include "stages/cluster/layer_clusters.h"
#include "stages/cluster/load_centroids.h"
#include "stages/evaluate/routing_counts.h"
#include "stages/precision_check.h"

namespace moextract::stages {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

/// What is counted; all integers, so that sums over threads and ranks are exact.
struct Counts {
  std::vector<std::int64_t> numbers = std::vector<std::int64_t>(4, 0);
  std::vector<RoutingCounts> layers;

  enum Number { images, top1, top5, skipped };
  Counts(const model::Network& network, const model::TensorMap& tensors, std::int64_t classes) {
    for (std::int64_t l = 0; l < network.layers(); ++l) {
      RoutingCounts layer;
      layer.experts = network.mlp(l).experts();
      layer.routed_experts = layer.experts - (tensors.contains(model::mlp_prefix(l) + "experts.prefix") ? 1 : 0);
      layer.classes = classes;
      layer.positions = network.mlp_tokens(l);
      layer.by_class.assign(static_cast<std::size_t>(layer.experts * classes), 0);
      layer.by_position.assign(static_cast<std::size_t>(layer.experts * layer.positions), 0);
      layers.push_back(std::move(layer));
    }
  }
  /// `expert`: of each token of a micro-batch, image by image, one or several ([tokens] or [tokens, m], -1: none);
  /// `labels`: of its images.
  void add_tokens(std::size_t layer, const at::Tensor& expert, const std::vector<std::int64_t>& labels) {
    RoutingCounts& counts = layers[layer];
    const std::int64_t each = expert.dim() == 2 ? expert.size(1) : 1;
    const at::Tensor whole = expert.contiguous();
    const std::int64_t* next = whole.const_data_ptr<std::int64_t>();
    for (const std::int64_t label : labels) {
      for (std::int64_t position = 0; position < counts.positions; ++position) {
        for (std::int64_t slot = 0; slot < each; ++slot, ++next) {
          if (*next < 0) continue;
          ++counts.by_class[static_cast<std::size_t>(*next * counts.classes + label)];
          ++counts.by_position[static_cast<std::size_t>(*next * counts.positions + position)];
        }
      }
    }
  }
  void all_reduce(comm::Communicator& comm) {
    std::vector<std::int64_t> flat = numbers;
    for (const RoutingCounts& layer : layers) {
      flat.insert(flat.end(), layer.by_class.begin(), layer.by_class.end());
      flat.insert(flat.end(), layer.by_position.begin(), layer.by_position.end());
      flat.insert(flat.end(), {layer.entropy, layer.routed});
    }
    comm.all_reduce(std::span<std::int64_t>(flat), comm::Reduction::sum);
    auto next = flat.begin();
    const auto take = [&](std::vector<std::int64_t>& to) {
      for (std::int64_t& value : to) value = *next++;
    };
    take(numbers);
    for (RoutingCounts& layer : layers) {
      take(layer.by_class), take(layer.by_position);
      layer.entropy = *next++;
      layer.routed = *next++;
    }
  }
};

/// Classes that stand before the label.
std::int64_t rank_of_label(const float* logits, std::int64_t classes, std::int64_t label) {
  std::int64_t before = 0;
  for (std::int64_t c = 0; c < classes; ++c) {
    before += (logits[c] > logits[label] || (logits[c] == logits[label] && c < label)) ? 1 : 0;
  }
  return before;
}

/// What the model answered to each image; every image's numbers stand on one rank, zero elsewhere.
struct Answers {
  std::vector<std::int64_t> predicted, label_rank;  // plus one: zero is an image of another rank, or one left out

  explicit Answers(std::int64_t images)
      : predicted(static_cast<std::size_t>(images), 0), label_rank(static_cast<std::size_t>(images), 0) {}
  void set(std::int64_t image, const float* logits, std::int64_t classes, std::int64_t rank) {
    predicted[static_cast<std::size_t>(image)] = std::max_element(logits, logits + classes) - logits + 1;
    label_rank[static_cast<std::size_t>(image)] = rank + 1;
  }
  void all_reduce(comm::Communicator& comm) {
    comm.all_reduce(std::span<std::int64_t>(predicted), comm::Reduction::sum);
    comm.all_reduce(std::span<std::int64_t>(label_rank), comm::Reduction::sum);
  }
  void save(const fs::path& path) const {
    const auto tensor = [](const std::vector<std::int64_t>& plus_one) {
      at::Tensor values = at::empty({static_cast<std::int64_t>(plus_one.size())}, at::kInt);
      std::transform(plus_one.begin(), plus_one.end(), values.data_ptr<std::int32_t>(),
                     [](std::int64_t v) { return static_cast<std::int32_t>(v - 1); });
      return values;
    };
    model::save_weights(path, {{"predicted", tensor(predicted)}, {"label_rank", tensor(label_rank)}}, {});
  }
};

/// Share of the tokens that went to each expert, perhaps among others.
model::TokenShares token_shares(const Counts& counts) {
  model::TokenShares shares;
  for (const RoutingCounts& layer : counts.layers) {
    const double tokens = static_cast<double>(counts.numbers[Counts::images] * layer.positions);
    std::vector<double> share;
    for (const std::int64_t n : layer.tokens()) share.push_back(tokens > 0 ? static_cast<double>(n) / tokens : 0.0);
    shares.push_back(std::move(share));
  }
  return shares;
}

/// The routers of the layers with experts, for what their probabilities tell: by layer; keys undefined without one.
std::vector<moe::RouterWeights> routers_of(const moe::LoadedModel& model, const model::Network& network) {
  json assembly = json::object();
  if (const auto said = model.metadata.find("moextract.assembly"); said != model.metadata.end())
    assembly = json::parse(said->second, nullptr, false);
  std::vector<moe::RouterWeights> routers(static_cast<std::size_t>(network.layers()));
  for (std::int64_t l = 0; l < network.layers(); ++l) {
    if (network.mlp(l).experts() == 0) continue;
    const auto i = static_cast<std::size_t>(l);
    const json layers = assembly.is_object() ? assembly.value("layers", json::array()) : json::array();
    const double temperature = i < layers.size() ? layers[i].value("router_temperature", 0.0) : 0.0;
    if (!(temperature > 0)) continue;  // not known: no probabilities
    routers[i] = moe::get_router(model::mlp_prefix(l), model.tensors);
    routers[i].temperature = temperature;
  }
  return routers;
}

/// Sum over tokens of H(p(. | token)) in entropy_units.
std::int64_t router_entropy(const moe::RouterWeights& router, const at::Tensor& x) {
  const at::Tensor p = moe::router_probabilities(router, x);
  const at::Tensor bits = (-(p * p.clamp_min(1e-300).log2()).sum(1)).cpu().contiguous();
  std::int64_t sum = 0;
  for (std::int64_t i = 0; i < bits.numel(); ++i) sum += entropy_units(bits.const_data_ptr<double>()[i]);
  return sum;
}

/// `model` with its experts routed as `inputs` says; `dense` where a control asks it.
std::unique_ptr<model::Network> make_routed(const EvaluateInputs& inputs, const moe::LoadedModel& model,
                                            const moe::LoadedModel* dense, const Device& device) {
  if (inputs.routing == moe::Routing::learnt)
    return moe::make_network(model.description, model.tensors, inputs.precision);
  const auto make = [&](std::int64_t layer, const model::TensorMap& tensors,
                        model::Precision precision) -> std::unique_ptr<model::Mlp> {
    const std::string prefix = model::mlp_prefix(layer);
    if (!tensors.contains(prefix + "router.weight")) return moe::make_mlp(layer, tensors, precision);
    const std::int64_t k = tensors.at(prefix + "router.weight").size(0);
    if (k == 1) return moe::make_mlp(layer, tensors, precision);  // static: nothing to choose, whoever chooses
    moe::Chooser chooser;
    if (inputs.routing == moe::Routing::random) {
      chooser = moe::random_routing(inputs.seed, layer, k);
    } else if (inputs.routing == moe::Routing::best) {
      chooser = moe::best_routing(layer, dense->tensors, tensors, k);
    } else {
      moe::Centroids centroids = load_centroids(inputs.clusters, layer, k);
      for (at::Tensor* tensor : {&centroids.rows, &centroids.map_weight, &centroids.map_bias})
        if (tensor->defined()) *tensor = model::to_device(*tensor, device);
      chooser = moe::oracle_routing(layer, dense->tensors, centroids,
                                    load_layer_clusters(inputs.clusters, layer).summary.value("tap", "x"));
    }
    return std::make_unique<moe::MixtureMlp>(layer, tensors, std::move(chooser));
  };
  return std::make_unique<model::Vit>(model.description.vit, model.tensors, make, inputs.precision);
}

/// What is looked at of a layer's trace.
struct Routed {
  at::Tensor x, expert;
};

}  // namespace

void describe(config::Section section, ControlParams& p) {
  section.add("random", &p.random, "Each token goes to any one expert, by a hash of its input");
  section.add("oracle", &p.oracle,
              "Each token goes to the one expert of the cluster that its true activations lie nearest to");
  section.add("best", &p.best, "Each token goes to the one expert whose answer comes nearest to the dense MLP's");
  section.add("seed", &p.seed, "Of random routing");
}

json evaluate(const EvaluateInputs& inputs, run::Context& context, const fs::path& folder) {
  const PrecisionCheck check = inputs.precision_sample > 0
                                   ? check_precision(inputs.model, inputs.precision, inputs.images, inputs.micro_batch,
                                                     inputs.precision_sample, "evaluate", context)
                                   : PrecisionCheck{};
  const Device device = context.device;
  std::unique_ptr<model::Network> network;
  moe::LoadedModel model, dense;
  context.comm.together([&] {
    model = moe::to_device(inputs.model, device);
    if (inputs.dense != nullptr) dense = moe::to_device(*inputs.dense, device);
    network = make_routed(inputs, model, inputs.dense != nullptr ? &dense : nullptr, device);
  });
  const std::vector<moe::RouterWeights> routers = routers_of(model, *network);
  const std::int64_t prefix = inputs.model.description.vit.prefix_tokens();
  const std::int64_t total = inputs.images.size(), classes = inputs.model.description.vit.classes;
  const std::int64_t batches = (total + inputs.micro_batch - 1) / inputs.micro_batch;
  std::vector<std::int64_t> mine;
  for (std::int64_t b = context.comm.rank(); b < batches; b += context.comm.size()) mine.push_back(b);

  Counts counts(*network, inputs.model.tensors, classes);
  Answers answers(total);
  std::vector<std::string> skipped;
  double forward_seconds = 0;
  context.comm.together([&] {
    if (inputs.images.classes() > classes) {
      fail(ExitCode::model,
           "{}: the model knows {} classes, but the images have {}. Give the right model or data.validation.classes",
           inputs.model.path.string(), classes, inputs.images.classes());
    }
    run::Progress progress(context.comm.is_root() ? context.log : nullptr, "evaluate",
                           static_cast<std::int64_t>(mine.size()) * inputs.micro_batch, "images of this rank");
    std::mutex mutex;
    context.workers.for_each(static_cast<std::int64_t>(mine.size()), [&](std::int64_t unit, int) {
      if (context.should_stop()) {
        fail(ExitCode::resume,
             "evaluate was asked to stop; finished stages are kept. Run the same command again to go on");
      }
      const at::NoGradGuard no_grad;
      const model::DeviceScope scope(device);
      const std::int64_t first = mine[static_cast<std::size_t>(unit)] * inputs.micro_batch;
      const std::int64_t count = std::min(inputs.micro_batch, total - first);
      const model::InputBatch batch =
          model::load_batch(inputs.images, inputs.model.description.preprocess, first, count, inputs.bad_images);
      std::vector<std::int64_t> numbers(counts.numbers.size(), 0), labels;
      std::vector<std::pair<std::size_t, Routed>> routed;
      double seconds = 0;
      if (!batch.index.empty()) {
        const at::Tensor images = model::to_device(batch.images, device);
        model::synchronize(device);  // what is measured begins with nothing under way
        const auto start = std::chrono::steady_clock::now();
        const auto see = [&](std::int64_t layer, const model::MlpTrace& trace) {
          if (trace.expert.defined()) routed.push_back({static_cast<std::size_t>(layer), {trace.x, trace.expert}});
        };
        const at::Tensor answer = network->logits(images, model::Observer(see, /*hidden=*/false));
        model::synchronize(device);
        const at::Tensor logits = answer.cpu().contiguous();
        seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        for (std::size_t i = 0; i < batch.index.size(); ++i) {
          const float* row = logits.const_data_ptr<float>() + static_cast<std::int64_t>(i) * classes;
          for (std::int64_t c = 0; c < classes; ++c) {
            if (!std::isfinite(row[c])) {
              fail(ExitCode::numerics, "{}: the logits of image '{}' are not finite: the model is damaged or diverged",
                   inputs.model.path.string(), inputs.images.id(batch.index[i]));
            }
          }
          const std::int64_t rank = rank_of_label(row, classes, inputs.images.label(batch.index[i]));
          answers.set(batch.index[i], row, classes, rank);  // each image is one thread's
          labels.push_back(inputs.images.label(batch.index[i]));
          numbers[Counts::top1] += rank < 1 ? 1 : 0;
          numbers[Counts::top5] += rank < 5 ? 1 : 0;
        }
      }
      std::vector<std::array<std::int64_t, 2>> entropies(routed.size(), {0, 0});
      for (std::size_t i = 0; i < routed.size(); ++i) {
        const moe::RouterWeights& router = routers[routed[i].first];
        if (!router.keys.defined()) continue;
        const bool apart = inputs.model.tensors.contains(model::mlp_prefix(static_cast<std::int64_t>(routed[i].first)) +
                                                         "experts.prefix");
        const std::int64_t skip = apart ? prefix : 0;
        at::Tensor x = routed[i].second.x;
        x = x.narrow(1, skip, x.size(1) - skip).reshape({-1, x.size(2)});
        entropies[i] = {router_entropy(router, x), x.size(0)};
      }
      for (auto& [layer, went] : routed) went.expert = went.expert.cpu();
      numbers[Counts::images] = static_cast<std::int64_t>(batch.index.size());
      numbers[Counts::skipped] = static_cast<std::int64_t>(batch.skipped.size());
      const std::lock_guard lock(mutex);
      for (std::size_t i = 0; i < numbers.size(); ++i) counts.numbers[i] += numbers[i];
      for (std::size_t i = 0; i < routed.size(); ++i) {
        counts.add_tokens(routed[i].first, routed[i].second.expert, labels);
        counts.layers[routed[i].first].entropy += entropies[i][0];
        counts.layers[routed[i].first].routed += entropies[i][1];
      }
      forward_seconds += seconds;
      for (const std::string& message : batch.skipped) {
        context.log->warn("left out: {}", message);
        skipped.push_back(message);
      }
      progress.add(count);
    });
  });
  counts.all_reduce(context.comm);
  answers.all_reduce(context.comm);
  // Seconds of forward passes of all threads of all ranks: images/s = images / (seconds / threads), decoding left out.
  forward_seconds = context.comm.all_reduce_value(forward_seconds, comm::Reduction::sum);
  const std::int64_t images = counts.numbers[Counts::images];
  model::check_skipped(skipped, counts.numbers[Counts::skipped], total, inputs.max_bad_share);
  MOEX_ASSERT(images + counts.numbers[Counts::skipped] == total, "images lost or counted twice between ranks");

  const model::TokenShares shares = token_shares(counts);
  json layers = json::array();
  for (std::int64_t l = 0; l < network->layers(); ++l) {
    const auto& share = shares[static_cast<std::size_t>(l)];
    const RoutingCounts& routing = counts.layers[static_cast<std::size_t>(l)];
    layers.push_back({{"layer", l},
                      {"tokens", routing.tokens()},
                      {"token_share", share},
                      {"active_neurons", network->mlp(l).active_neurons(share)}});
    if (routing.experts > 0) {
      layers.back()["usage_entropy"] = routing.usage_entropy();
      layers.back()["class_information"] = routing.class_information();
      layers.back()["position_information"] = routing.position_information();
      if (routing.routed > 0) layers.back()["router_entropy"] = routing.router_entropy();
    }
  }
  json evaluation{{"images", images},
                  {"skipped", counts.numbers[Counts::skipped]},
                  {"top1_correct", counts.numbers[Counts::top1]},
                  {"top5_correct", counts.numbers[Counts::top5]},
                  {"macs_per_image", model::macs_per_image(*network, shares)},
                  {"parameters", model::count_parameters(inputs.model.tensors)},
                  {"layers", std::move(layers)}};
  evaluation["precision"] = name_of(inputs.precision);
  if (check.images > 0) evaluation["precision_check"] = to_json(check, inputs.precision);
  const int workers = context.comm.size() * context.workers.size();
  const json timing{
      {"images_per_second", forward_seconds > 0 ? static_cast<double>(images) * workers / forward_seconds : 0.0},
      {"forward_seconds", forward_seconds},
      {"device", name_of(device.kind)},
      {"ranks", context.comm.size()},
      {"threads_per_rank", context.workers.size()},
      {"micro_batch", inputs.micro_batch}};
  context.comm.together([&] {
    if (!context.comm.is_root()) return;
    answers.save(folder / kPredictionsFile);
    save_routing(folder / kRoutingFile, counts.layers);
    write_file_atomically(folder / kEvaluationFile, evaluation.dump(2) + "\n");
    write_file_atomically(folder / kTimingFile, timing.dump(2) + "\n");
  });
  context.log->info("evaluate: {} of {} right ({:.2f} %), top-5 {:.2f} %", counts.numbers[Counts::top1], images,
                    100.0 * static_cast<double>(counts.numbers[Counts::top1]) /
                        static_cast<double>(std::max<std::int64_t>(images, 1)),
                    100.0 * static_cast<double>(counts.numbers[Counts::top5]) /
                        static_cast<double>(std::max<std::int64_t>(images, 1)));
  return {{"images", images}, {"skipped", counts.numbers[Counts::skipped]}};
}

AnswerChanges compare_answers(const fs::path& first, const fs::path& second) {
  const auto load = [](const fs::path& folder, const char* name) {
    const model::WeightsFile file = model::load_weights(folder / kPredictionsFile);
    const auto found = file.tensors.find(name);
    if (found == file.tensors.end() || found->second.dim() != 1) {
      fail(ExitCode::input, "{}: is not a file of the evaluate stage: run it again",
           (folder / kPredictionsFile).string());
    }
    return found->second.to(at::kLong).contiguous();
  };
  const at::Tensor rank_a = load(first, "label_rank"), rank_b = load(second, "label_rank"),
                   class_a = load(first, "predicted"), class_b = load(second, "predicted");
  if (rank_a.numel() != rank_b.numel() || class_a.numel() != class_b.numel() || rank_a.numel() != class_a.numel()) {
    fail(ExitCode::input, "{} and {}: are answers to different images: run the evaluate stage again", first.string(),
         second.string());
  }
  AnswerChanges changes;
  for (std::int64_t i = 0; i < rank_a.numel(); ++i) {
    const bool right_a = rank_a.const_data_ptr<std::int64_t>()[i] == 0,
               right_b = rank_b.const_data_ptr<std::int64_t>()[i] == 0;
    const std::int64_t answer = class_a.const_data_ptr<std::int64_t>()[i];
    changes.gained += !right_a && right_b ? 1 : 0;
    changes.lost += right_a && !right_b ? 1 : 0;
    changes.agreeing += answer >= 0 && answer == class_b.const_data_ptr<std::int64_t>()[i] ? 1 : 0;
  }
  return changes;
}

}  // namespace moextract::stages
