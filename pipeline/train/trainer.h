// Data-parallel training of a network's weights: from scratch, or fine-tuning with distillation from a teacher.
//
// A step's batch is cut into micro-batches. A micro-batch is computed by one thread, and gradients are summed as
// integers (gradient_sum.h): the trained weights are the same bits on any number of ranks and threads. All that is
// drawn is keyed by the seed and the position in the stream of samples, so a resumed run continues as if it had not
// stopped.
//
// On a device the weights, their moments and the sums are in its memory, micro-batches of all threads follow each other
// there, and every operator is LibTorch's. The bits are the same on any number of ranks with the same kind of GPU.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <vector>

#include "comm/communicator.h"
#include "core/device.h"
#include "core/workers.h"
#include "data/image_set.h"
#include "data/preprocess.h"
#include "model/description.h"
#include "model/network.h"
#include "model/weights.h"

namespace moextract::train {

struct TrainerParams {
  std::int64_t steps = 0;         ///< optimiser steps; 0: from epochs
  double epochs = 1.0;            ///< passes over the images, if steps is 0
  std::int64_t batch = 32;        ///< images a step, over all ranks
  std::int64_t micro_batch = 8;   ///< images a thread computes at once
  double learning_rate = 1.5e-5;  ///< peak
  double warmup_share = 0.05;     ///< share of the steps
  double floor_share = 0.0;       ///< final rate / peak
  double weight_decay = 0.01;
  double clip_norm = 1.0;       ///< largest Euclidean norm of the gradient; 0: no clipping
  double distill_weight = 1.0;  ///< weight of the divergence from the teacher; the labels' cross-entropy has the rest
  double temperature = 1.0;     ///< of the distillation
  double label_smoothing = 0.0;
  data::AugmentParams augment;
  std::int64_t checkpoint_every = 100;  ///< steps; 0: only when asked to stop
  std::uint64_t seed = 1;
};

struct TrainingRecord {
  std::int64_t step = 0;
  double loss = 0;  ///< mean over the batch
  double learning_rate = 0;
  double gradient_norm = 0;  ///< before clipping
};

struct TrainingOutcome {
  model::TensorMap tensors;
  std::vector<TrainingRecord> history;  ///< every step
  std::int64_t resumed_from = 0;        ///< step of the checkpoint that was found, or 0
  std::int64_t skipped_images = 0;      ///< pictures that could not be decoded (counted each time)
};

/// Makes a network from tensors; called for every micro-batch, with tensors that record gradients.
using NetworkFactory = std::function<std::unique_ptr<model::Network>(const model::TensorMap&)>;

struct TrainingTask {
  const data::ImageSet* images = nullptr;
  data::PreprocessParams preprocess;
  model::TensorMap start;  ///< initial weights (copied), in the device's memory
  NetworkFactory make_network;
  const model::Network* teacher = nullptr;  ///< on the same device; null: labels alone, whatever distill_weight says
  std::filesystem::path checkpoint;         ///< file to resume from and to save to; empty: none
  std::string checkpoint_key;               ///< identifies the run; a checkpoint of another one is an error
  bool skip_bad_images = false;
  Device device = {};
  std::function<void(const TrainingRecord&, std::int64_t steps)> on_step;  ///< on rank 0
  std::function<bool()> should_stop;  ///< asked before every step; any rank's yes stops all, after saving
};

/// Steps that these parameters mean for a set of `images` pictures.
std::int64_t training_steps(const TrainerParams& params, std::int64_t images);

/// Collective; blocks in one all-reduce a step. Router keys (*.router.weight) and integer tensors are not trained.
/// Throws UserError: (numerics) when the loss or a gradient is not finite, naming step and tensor; (input) for bad
/// pictures if they are not to be skipped; (resume) when stopped after saving.
TrainingOutcome train(const TrainingTask& task, const TrainerParams& params, comm::Communicator& comm,
                      Workers& workers);

}  // namespace moextract::train
