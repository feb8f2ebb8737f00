// The comparison of a reduced precision with float32, against both computed picture by picture.
#include "stages/precision_check.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include "comm/backends.h"
#include "model/input_batch.h"
#include "run/log.h"
#include "tests/stages/small_run.h"

namespace moextract::stages::test {
namespace {

TEST(PrecisionCheck, CountsPicturesSpreadOverTheSetOnAnyRanks) {
  const at::NoGradGuard no_grad;
  const SmallRun small;
  const Pipeline pipeline(small.config({}));
  const data::ImageSet& set = *pipeline.images("calibration");  // 60 pictures
  const moe::LoadedModel model = moe::load_model(small.weights_file(), std::nullopt);
  const auto exact = moe::make_network(model.description, model.tensors),
             reduced = moe::make_network(model.description, model.tensors, model::Precision::int16);
  std::int64_t agreeing = 0, right = 0, right_float32 = 0;
  double difference = 0;
  for (std::int64_t i = 0; i < 16; ++i) {
    const model::InputBatch one =
        model::load_batch(set, model.description.preprocess, 3 * i, 1, model::BadImages::stop);
    const at::Tensor a = reduced->logits(one.images), b = exact->logits(one.images);
    const std::int64_t got = a.argmax(1).item<std::int64_t>(), wanted = b.argmax(1).item<std::int64_t>();
    agreeing += got == wanted ? 1 : 0;
    right += got == set.label(3 * i) ? 1 : 0;
    right_float32 += wanted == set.label(3 * i) ? 1 : 0;
    difference = std::max(difference, (a - b).abs().max().item<double>());
  }
  EXPECT_GT(difference, 0);
  for (const int ranks : {1, 2, 3}) {
    comm::run_threads(ranks, [&](comm::Communicator& comm) {
      Workers workers(2, [] { at::set_num_threads(1); });
      run::Context context{comm, workers, run::make_logger(1, 2, false)};
      const PrecisionCheck check = check_precision(model, model::Precision::int16, set, 5, 16, "collect", context);
      EXPECT_EQ(check.images, 16);
      EXPECT_EQ(check.agreeing, agreeing);
      EXPECT_EQ(check.right, right);
      EXPECT_EQ(check.right_float32, right_float32);
      EXPECT_DOUBLE_EQ(check.largest_difference, difference);
      EXPECT_EQ(check_precision(model, model::Precision::float32, set, 5, 16, "collect", context).images, 0)
          << "nothing to compare";
    });
  }
}

TEST(PrecisionCheck, TakesOneIn64PicturesWithinBounds) {
  EXPECT_EQ(precision_sample(100), 16);
  EXPECT_EQ(precision_sample(2048), 32);
  EXPECT_EQ(precision_sample(1281167), 64);
}

}  // namespace
}  // namespace moextract::stages::test
