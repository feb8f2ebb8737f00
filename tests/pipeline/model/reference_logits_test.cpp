// ViT-Tiny on 200 photographs against logits of an independent NumPy and Pillow implementation: decoding, resizing,
// normalising and the whole forward pass.
#include <algorithm>
#include <cstdlib>

#include "core/workers.h"
#include "model/input_batch.h"
#include "tests/pipeline/model/model_cases.h"
#include "tests/pipeline/model/npy_file.h"

namespace moextract::model::test {
namespace {

TEST(ReferenceLogits, VitTinyOnPhotographs) {
  const char* folder = std::getenv("MOEXTRACT_TEST_DATA");
  if (folder == nullptr) GTEST_SKIP() << "MOEXTRACT_TEST_DATA is not set: no real model and photographs";
  const fs::path data = folder;
  const auto named = find_named_vit("vit_tiny_patch16_224.augreg_in21k_ft_in1k");
  ASSERT_TRUE(named);
  const fs::path file = data / "vit-tiny-in1k" / "vit_tiny_patch16_224.safetensors";
  TensorMap tensors = load_weights(file).tensors;
  check_vit_tensors(file, named->vit, tensors, true);
  EXPECT_EQ(count_parameters(tensors), 5717416);
  const Vit vit(named->vit, tensors);

  data::ImageSetParams params;
  params.source = data / "nips17-mini200" / "labels.csv";
  params.label_column = "index";
  params.root = data / "nips17-mini200" / "images";
  const auto images = data::open_image_set(params);
  const NpyMatrix reference = read_npy(data / "nips17-mini200" / "ref_logits_vit_tiny_in1k.npy");
  ASSERT_EQ(images->size(), 200);
  ASSERT_EQ(reference.rows, 200);
  ASSERT_EQ(reference.columns, 1000);

  constexpr std::int64_t kMicroBatch = 8;
  std::vector<at::Tensor> logits(200 / kMicroBatch);
  Workers workers(std::min(usable_cores(), 4), [] { at::set_num_threads(1); });
  workers.for_each(static_cast<std::int64_t>(logits.size()), [&](std::int64_t unit, int) {
    const at::NoGradGuard no_grad;
    const InputBatch batch = load_batch(*images, named->preprocess, unit * kMicroBatch, kMicroBatch, BadImages::stop);
    logits[static_cast<std::size_t>(unit)] = vit.logits(batch.images);
  });
  const at::Tensor all = at::cat(logits).contiguous();

  double largest = 0;
  std::int64_t correct = 0;
  for (std::int64_t i = 0; i < 200; ++i) {
    const float* row = all.const_data_ptr<float>() + i * 1000;
    for (std::int64_t c = 0; c < 1000; ++c) {
      const double expected = reference.values[static_cast<std::size_t>(i * 1000 + c)];
      largest = std::max(largest, std::abs(static_cast<double>(row[c]) - expected));
    }
    correct += std::max_element(row, row + 1000) - row == images->label(i);
  }
  EXPECT_LT(largest, 2e-3);
  EXPECT_EQ(correct, 176);
  RecordProperty("largest_difference", std::to_string(largest));
}

}  // namespace
}  // namespace moextract::model::test
