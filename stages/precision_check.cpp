#include "stages/precision_check.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <mutex>
#include <vector>

#include "model/device_tensors.h"
#include "moe/device_model.h"

namespace moextract::stages {

std::int64_t precision_sample(std::int64_t images) {
  return std::clamp<std::int64_t>(images / 64, 16, 64);
}

nlohmann::json to_json(const PrecisionCheck& check, model::Precision precision) {
  return {{"precision", name_of(precision)},
          {"images", check.images},
          {"agreeing", check.agreeing},
          {"top1_correct", check.right},
          {"top1_correct_float32", check.right_float32},
          {"largest_logit_difference", check.largest_difference}};
}

PrecisionCheck check_precision(const moe::LoadedModel& model, model::Precision precision, const data::ImageSet& images,
                               std::int64_t micro_batch, std::int64_t sample, const char* stage,
                               run::Context& context) {
  PrecisionCheck check;
  if (precision == model::Precision::float32) return check;
  const model::TensorMap tensors = moe::to_device(model.tensors, context.device);
  const auto reduced = moe::make_network(model.description, tensors, precision),
             exact = moe::make_network(model.description, tensors);
  const std::int64_t total = std::min(sample, images.size()), batches = (total + micro_batch - 1) / micro_batch;
  // Spread over the set: the first pictures are often of one class.
  const std::int64_t stride = total > 0 ? images.size() / total : 1;
  std::vector<std::int64_t> mine;
  for (std::int64_t b = context.comm.rank(); b < batches; b += context.comm.size()) mine.push_back(b);
  enum Count { count, agreeing, right, right_float32, counts };
  std::vector<std::int64_t> sums(Count::counts, 0);
  context.comm.together([&] {
    std::mutex mutex;
    context.workers.for_each(static_cast<std::int64_t>(mine.size()), [&](std::int64_t unit, int) {
      const at::NoGradGuard no_grad;
      const model::DeviceScope scope(context.device);
      const std::int64_t first = mine[static_cast<std::size_t>(unit)] * micro_batch;
      const model::InputBatch batch =
          model::load_batch(images, model.description.preprocess, first * stride, std::min(micro_batch, total - first),
                            model::BadImages::skip, stride);
      if (batch.index.empty()) return;
      const at::Tensor pictures = model::to_device(batch.images, context.device), a = reduced->logits(pictures).cpu(),
                       b = exact->logits(pictures).cpu();
      const at::Tensor answer = a.argmax(1).contiguous(), expected = b.argmax(1).contiguous();
      const double difference = (a - b).abs().max().item<double>();
      const std::lock_guard lock(mutex);
      check.largest_difference = std::max(check.largest_difference, difference);
      for (std::size_t i = 0; i < batch.index.size(); ++i) {
        const std::int64_t label = images.label(batch.index[i]), got = answer.const_data_ptr<std::int64_t>()[i],
                           wanted = expected.const_data_ptr<std::int64_t>()[i];
        ++sums[Count::count];
        sums[Count::agreeing] += got == wanted ? 1 : 0;
        sums[Count::right] += got == label ? 1 : 0;
        sums[Count::right_float32] += wanted == label ? 1 : 0;
      }
    });
  });
  context.comm.all_reduce(std::span<std::int64_t>(sums), comm::Reduction::sum);
  check.largest_difference = context.comm.all_reduce_value(check.largest_difference, comm::Reduction::max);
  check.images = sums[Count::count];
  check.agreeing = sums[Count::agreeing];
  check.right = sums[Count::right];
  check.right_float32 = sums[Count::right_float32];
  const std::string text =
      fmt::format("{}: the dense model in {} gives float32's class for {} of {} images; top-1 {} right, in float32 {}",
                  stage, name_of(precision), check.agreeing, check.images, check.right, check.right_float32);
  if (check.agreeing * 100 < check.images * 95) {
    context.log->warn("{}. model.precision=float32 is safe", text);
  } else {
    context.log->info("{}", text);
  }
  return check;
}

}  // namespace moextract::stages
