// The loss against its definition in double.
#include "train/loss.h"

#include <cmath>

#include "tests/pipeline/model/model_cases.h"

namespace moextract::train {
namespace {

using model::test::random_tensor;

std::vector<double> softmax(const at::Tensor& row, double temperature) {
  std::vector<double> p;
  double sum = 0;
  for (std::int64_t c = 0; c < row.numel(); ++c) p.push_back(std::exp(row[c].item<double>() / temperature));
  for (const double v : p) sum += v;
  for (double& v : p) v /= sum;
  return p;
}

double expected(const at::Tensor& student, const at::Tensor& teacher, const std::vector<std::int64_t>& labels,
                const std::vector<double>& weight, const LossParams& params) {
  const double w = teacher.defined() ? params.distill_weight : 0.0, t = params.temperature;
  double loss = 0;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const auto row = static_cast<std::int64_t>(i);
    const std::vector<double> p = softmax(student[row], 1.0);
    double cross = 0;
    for (std::size_t c = 0; c < p.size(); ++c) {
      double target = params.label_smoothing / static_cast<double>(p.size());
      if (static_cast<std::int64_t>(c) == labels[i]) target += 1 - params.label_smoothing;
      cross -= target * std::log(p[c]);
    }
    double divergence = 0;
    if (teacher.defined()) {
      const std::vector<double> q = softmax(teacher[row], t), s = softmax(student[row], t);
      for (std::size_t c = 0; c < q.size(); ++c) divergence += q[c] * std::log(q[c] / s[c]);
    }
    loss += weight[i] * ((1 - w) * cross + w * t * t * divergence);
  }
  return loss;
}

TEST(Loss, HandComputed) {
  // Two classes, logits 0 and ln 3: probabilities 1/4 and 3/4.
  at::Tensor student = at::zeros({1, 2});
  student[0][1] = static_cast<float>(std::log(3.0));
  const at::Tensor label = at::ones({1}, at::kLong), weight = at::ones({1});
  const at::Tensor none, uniform = at::zeros({1, 2});
  EXPECT_NEAR(training_loss(student, none, label, weight, {}).item<double>(), std::log(4.0 / 3), 1e-6);
  EXPECT_NEAR(training_loss(student, none, label, weight, {.label_smoothing = 0.2}).item<double>(),
              0.9 * std::log(4.0 / 3) + 0.1 * std::log(4.0), 1e-6);
  // KL(uniform || (1/4, 3/4)), and not the other way round.
  EXPECT_NEAR(training_loss(student, uniform, label, weight, {}).item<double>(),
              0.5 * std::log(0.5 / 0.25) + 0.5 * std::log(0.5 / 0.75), 1e-6);
  EXPECT_NEAR(training_loss(student, student, label, weight, {.temperature = 3}).item<double>(), 0.0, 1e-6);
}

TEST(Loss, EqualsItsDefinition) {
  const at::Tensor student = random_tensor("student", {5, 7}, 2.0), teacher = random_tensor("teacher", {5, 7}, 2.0);
  const std::vector<std::int64_t> labels{3, 0, 6, 2, 2};
  const std::vector<double> weights{1, 1, 0, 1, 0.5};
  at::Tensor label = at::empty({5}, at::kLong), weight = at::empty({5});
  for (std::int64_t i = 0; i < 5; ++i) {
    label[i] = labels[static_cast<std::size_t>(i)];
    weight[i] = weights[static_cast<std::size_t>(i)];
  }
  for (const double distill : {0.0, 0.3, 1.0}) {
    for (const double temperature : {1.0, 4.0}) {
      for (const double smoothing : {0.0, 0.1}) {
        const LossParams params{distill, temperature, smoothing};
        SCOPED_TRACE(fmt::format("{} {} {}", distill, temperature, smoothing));
        const double want = expected(student, teacher, labels, weights, params);
        EXPECT_NEAR(training_loss(student, teacher, label, weight, params).item<double>(), want,
                    1e-5 * std::max(1.0, want));
        const double without = expected(student, {}, labels, weights, params);
        EXPECT_NEAR(training_loss(student, {}, label, weight, params).item<double>(), without, 1e-5 * without);
      }
    }
  }
}

TEST(Loss, WeightZeroTakesASampleOutOfTheGradient) {
  const at::Tensor student = random_tensor("student", {2, 3}).requires_grad_(true);
  at::Tensor weight = at::ones({2});
  weight[1] = 0;
  training_loss(student, {}, at::zeros({2}, at::kLong), weight, {}).backward();
  EXPECT_GT(student.grad()[0].abs().max().item<double>(), 0.01);
  EXPECT_EQ(student.grad()[1].abs().max().item<double>(), 0.0);
}

}  // namespace
}  // namespace moextract::train
