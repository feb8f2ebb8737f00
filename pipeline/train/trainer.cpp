#include "train/trainer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>

#include "core/error.h"
#include "core/hash.h"
#include "core/random.h"
#include "model/device_tensors.h"
#include "train/adamw.h"
#include "train/checkpoint.h"
#include "train/gradient_sum.h"
#include "train/loss.h"
#include "train/schedule.h"

namespace moextract::train {
namespace {

bool is_trained(const std::string& name, const at::Tensor& tensor) {
  return tensor.is_floating_point() && name.find(".router.") == std::string::npos;
}

/// Image number of each position of the endless stream of samples: one permutation an epoch.
class SampleOrder {
 public:
  SampleOrder(std::int64_t images, std::uint64_t seed) : images_(images), seed_(seed) {}
  std::int64_t at(std::int64_t position) {
    const std::int64_t epoch = position / images_;
    auto& order = orders_[epoch];
    if (order.empty())
      order = RandomStream(seed_, hash64("sample order"), static_cast<std::uint64_t>(epoch)).permutation(images_);
    orders_.erase(orders_.begin(), orders_.lower_bound(epoch - 1));
    return order[static_cast<std::size_t>(position % images_)];
  }

 private:
  std::int64_t images_;
  std::uint64_t seed_;
  std::map<std::int64_t, std::vector<std::int64_t>> orders_;
};

/// Extra integers that travel with the gradients.
enum Scalar : std::int64_t { loss_sum, failures, stop_requests, skipped, scalar_count };
constexpr double kLossUnits = 0x1.0p40;

class Trainer {
 public:
  Trainer(const TrainingTask& task, const TrainerParams& params, comm::Communicator& comm, Workers& workers)
      : task_(task), params_(params), comm_(comm), workers_(workers), order_(task.images->size(), params.seed) {
    for (const auto& [name, tensor] : task.start) {
      if (is_trained(name, tensor)) {
        trained_.emplace(name, tensor.clone().contiguous());
        offsets_.emplace(name, length_);
        length_ += tensor.numel();
      } else {
        fixed_.emplace(name, tensor);
      }
    }
    steps_ = training_steps(params, task.images->size());
    micro_batches_ = (params.batch + params.micro_batch - 1) / params.micro_batch;
    // Gradients are summed where the weights are. A device's memory holds one sum for all threads; threads of the host
    // have one each, so that they do not wait for each other.
    const GradientPlace place = GradientPlace::of(task.device, comm);
    for (int worker = 0; worker < workers.size(); ++worker) {
      if (worker == 0 || !task.device.by_tensors()) {
        sums_.emplace_back(length_, scalar_count, micro_batches_, place);
      }
      model::TensorMap leaves = fixed_;  // the same storage, but gradients of its own: threads do not meet
      for (const auto& [name, tensor] : trained_) leaves[name] = tensor.detach().requires_grad_(true);
      leaves_.push_back(std::move(leaves));
    }
  }

  TrainingOutcome run() {
    const model::DeviceScope scope(task_.device);
    TrainingOutcome outcome;
    std::optional<Checkpoint> found;
    comm_.together([&] {
      if (!task_.checkpoint.empty()) found = load_checkpoint(task_.checkpoint, task_.checkpoint_key);
    });
    AdamW optimiser({.weight_decay = params_.weight_decay}, trained_);
    if (found) {
      restore(*found, optimiser);
      outcome.history = std::move(found->history);
      outcome.resumed_from = found->step;
      outcome.skipped_images = found->skipped_images;
    }
    std::vector<float> gradient(static_cast<std::size_t>(task_.device.by_tensors() ? 0 : length_));
    for (std::int64_t step = outcome.resumed_from; step < steps_; ++step) {
      accumulate(step);
      const GradientSum& sum = sums_.front();
      if (sum.scalar(failures) > 0) comm_.agree(error_);
      if (sum.scalar(stop_requests) > 0) {  // before the update: the step is done again after the resume
        save(step, outcome, optimiser);
        if (task_.checkpoint.empty()) {
          fail(ExitCode::resume,
               "training was asked to stop in step {} of {}; it has no checkpoint, so nothing is saved", step + 1,
               steps_);
        }
        fail(ExitCode::resume,
             "training was asked to stop; {} of {} steps are saved. Run the same command again to go on", step, steps_);
      }
      at::Tensor on_device;
      if (task_.device.by_tensors()) {
        on_device = sum.values();
      } else {
        sum.read(0, gradient);
      }
      const double norm = on_device.defined() ? norm_of(on_device) : gradient_norm(gradient);
      const double scale = params_.clip_norm > 0 && norm > params_.clip_norm ? params_.clip_norm / norm : 1.0;
      const auto warmup = static_cast<std::int64_t>(std::llround(params_.warmup_share * static_cast<double>(steps_)));
      const double rate = warmup_cosine(step, steps_, warmup, params_.learning_rate, params_.floor_share);
      if (on_device.defined()) {
        optimiser.step(step + 1, rate, on_device, static_cast<float>(scale));
      } else {
        optimiser.step(step + 1, rate, gradient, static_cast<float>(scale), workers_);
      }
      outcome.skipped_images += sum.scalar(skipped);
      const double loss = static_cast<double>(sum.scalar(loss_sum)) / kLossUnits;
      outcome.history.push_back({step + 1, loss, rate, norm});
      if (comm_.is_root() && task_.on_step) task_.on_step(outcome.history.back(), steps_);
      const bool due = params_.checkpoint_every > 0 && (step + 1) % params_.checkpoint_every == 0 && step + 1 < steps_;
      if (due) save(step + 1, outcome, optimiser);
    }
    for (const model::TensorMap* part : {&fixed_, &trained_}) {
      for (const auto& [name, tensor] : *part) outcome.tensors.emplace(name, tensor.cpu());
    }
    return outcome;
  }

 private:
  /// Gradients of this step, summed over threads and ranks, in sums_.front().
  void accumulate(std::int64_t step) {
    for (GradientSum& sum : sums_) sum.clear();
    error_ = nullptr;
    std::vector<std::int64_t> images(static_cast<std::size_t>(params_.batch));
    for (std::int64_t i = 0; i < params_.batch; ++i)
      images[static_cast<std::size_t>(i)] = order_.at(step * params_.batch + i);
    std::vector<std::int64_t> mine;
    for (std::int64_t u = comm_.rank(); u < micro_batches_; u += comm_.size()) mine.push_back(u);
    try {
      workers_.for_each(static_cast<std::int64_t>(mine.size()), [&](std::int64_t unit, int worker) {
        const std::int64_t first = mine[static_cast<std::size_t>(unit)] * params_.micro_batch;
        const std::int64_t count = std::min(params_.micro_batch, params_.batch - first);
        micro_batch(step, first,
                    std::span(images).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count)),
                    worker);
      });
    } catch (...) {
      error_ = std::current_exception();
      sums_.front().add_scalar(failures, 1);
    }
    if (task_.should_stop && task_.should_stop()) sums_.front().add_scalar(stop_requests, 1);
    for (std::size_t worker = 1; worker < sums_.size(); ++worker) sums_.front().merge(sums_[worker]);
    sums_.front().all_reduce(comm_);
  }

  void micro_batch(std::int64_t step, std::int64_t first, std::span<const std::int64_t> images, int worker) {
    const model::DeviceScope scope(task_.device);
    const auto n = static_cast<std::int64_t>(images.size());
    const data::PreprocessParams& pre = task_.preprocess;
    at::Tensor input = at::zeros({n, pre.channels, pre.crop, pre.crop});
    at::Tensor labels = at::zeros({n}, at::kLong), weight = at::ones({n});
    std::int64_t left_out = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t image = images[static_cast<std::size_t>(i)];
      labels.data_ptr<std::int64_t>()[i] = task_.images->label(image);
      const std::int64_t position = step * params_.batch + first + i;
      const std::uint64_t draw =
          RandomStream(params_.seed, hash64("augment"), static_cast<std::uint64_t>(position)).next();
      const auto values = static_cast<std::size_t>(pre.channels * pre.crop * pre.crop);
      const std::span<float> out(input.data_ptr<float>() + static_cast<std::size_t>(i) * values, values);
      try {
        data::preprocess_augmented(task_.images->load(image), pre, params_.augment, draw, out);
      } catch (const data::ImageError&) {
        if (!task_.skip_bad_images) throw;
        weight.data_ptr<float>()[i] = 0;
        ++left_out;
      }
    }
    input = model::to_device(input, task_.device);
    labels = model::to_device(labels, task_.device);
    weight = model::to_device(weight, task_.device);
    model::TensorMap& leaves = leaves_[static_cast<std::size_t>(worker)];
    at::Tensor teacher;
    if (task_.teacher != nullptr && params_.distill_weight > 0) {
      const at::NoGradGuard no_grad;
      teacher = task_.teacher->logits(input);
    }
    const at::Tensor student = task_.make_network(leaves)->logits(input);
    const LossParams loss_params{params_.distill_weight, params_.temperature, params_.label_smoothing};
    const at::Tensor loss =
        training_loss(student, teacher, labels, weight, loss_params) / static_cast<double>(params_.batch);
    const double value = loss.item<float>();
    if (!std::isfinite(value) || std::abs(value) > 1e5) {
      fail(ExitCode::numerics,
           "step {}: the loss is {}. Training has diverged: lower the learning rate or lengthen the warm-up; "
           "the last checkpoint is kept",
           step + 1, value);
    }
    loss.backward();
    std::unique_lock lock(sum_mutex_, std::defer_lock);
    if (sums_.size() == 1) lock.lock();
    GradientSum& sum = sums_[sums_.size() == 1 ? 0 : static_cast<std::size_t>(worker)];
    sum.add_scalar(skipped, left_out);
    sum.add_scalar(loss_sum, std::llround(value * kLossUnits));
    if (task_.device.by_tensors()) {
      add_at_once(step, leaves, sum);
      return;
    }
    for (const auto& [name, offset] : offsets_) {
      at::Tensor& leaf = leaves.at(name);
      if (!leaf.grad().defined()) continue;  // an expert without tokens in this micro-batch
      if (!sum.add(offset, leaf.grad())) fail_gradient(step, name);
      leaf.mutable_grad() = at::Tensor();
    }
  }

  [[noreturn]] static void fail_gradient(std::int64_t step, const std::string& name) {
    fail(ExitCode::numerics,
         "step {}: the gradient of '{}' is not finite or too large. Training has diverged: lower the learning "
         "rate or lengthen the warm-up; the last checkpoint is kept",
         step + 1, name);
  }

  /// All gradients in one piece: each addition makes the host wait for the device.
  void add_at_once(std::int64_t step, model::TensorMap& leaves, GradientSum& sum) const {
    std::vector<at::Tensor> parts;
    for (const auto& [name, offset] : offsets_) {
      const at::Tensor& leaf = leaves.at(name);
      parts.push_back(leaf.grad().defined() ? leaf.grad().reshape({-1}) : at::zeros({leaf.numel()}, leaf.options()));
    }
    if (parts.empty()) return;
    if (!sum.add(0, at::cat(parts).detach())) {
      for (const auto& [name, offset] : offsets_) {
        const at::Tensor& leaf = leaves.at(name);
        if (leaf.grad().defined() && !sum.add(offset, leaf.grad())) fail_gradient(step, name);
      }
    }
    for (const auto& [name, offset] : offsets_) leaves.at(name).mutable_grad() = at::Tensor();
  }

  /// The same on all ranks, whatever their devices make of it.
  double norm_of(const at::Tensor& gradient) const {
    double norm = gradient.to(at::kDouble).square().sum().sqrt().item<double>();
    comm_.broadcast(std::span<double>(&norm, 1));
    return norm;
  }

  /// In double, in one order.
  static double gradient_norm(std::span<const float> gradient) {
    double sum = 0;
    for (const float g : gradient) sum += static_cast<double>(g) * g;
    return std::sqrt(sum);
  }

  void save(std::int64_t step, const TrainingOutcome& outcome, const AdamW& optimiser) {
    if (task_.checkpoint.empty()) return;
    comm_.together([&] {
      if (!comm_.is_root()) return;
      save_checkpoint(task_.checkpoint, {task_.checkpoint_key, step, outcome.skipped_images, trained_,
                                         optimiser.first_moments(), optimiser.second_moments(), outcome.history});
    });
  }

  void restore(const Checkpoint& checkpoint, const AdamW& optimiser) {
    const auto copy = [&](const model::TensorMap& from, const model::TensorMap& to) {
      for (const auto& [name, tensor] : to) {
        const auto found = from.find(name);
        if (found == from.end() || found->second.sizes() != tensor.sizes()) {
          fail(ExitCode::input,
               "{}: tensor '{}' is missing or of another shape. Delete the checkpoint to train from the start",
               task_.checkpoint.string(), name);
        }
        at::Tensor target = tensor;
        target.copy_(found->second);
      }
    };
    copy(checkpoint.tensors, trained_);
    copy(checkpoint.first_moments, optimiser.first_moments());
    copy(checkpoint.second_moments, optimiser.second_moments());
  }

  const TrainingTask& task_;
  const TrainerParams& params_;
  comm::Communicator& comm_;
  Workers& workers_;
  SampleOrder order_;
  model::TensorMap trained_, fixed_;
  std::map<std::string, std::int64_t> offsets_;  // in the order of the map, as AdamW walks it
  std::int64_t length_ = 0, steps_ = 0, micro_batches_ = 0;
  std::vector<GradientSum> sums_;
  std::vector<model::TensorMap> leaves_;
  std::exception_ptr error_;
  std::mutex sum_mutex_;  // where threads share a sum
};

}  // namespace

std::int64_t training_steps(const TrainerParams& params, std::int64_t images) {
  if (params.steps > 0) return params.steps;
  return static_cast<std::int64_t>(
      std::ceil(params.epochs * static_cast<double>(images) / static_cast<double>(params.batch)));
}

TrainingOutcome train(const TrainingTask& task, const TrainerParams& params, comm::Communicator& comm,
                      Workers& workers) {
  MOEX_ASSERT(task.images != nullptr && task.images->size() > 0, "training needs images");
  return Trainer(task, params, comm, workers).run();
}

}  // namespace moextract::train
