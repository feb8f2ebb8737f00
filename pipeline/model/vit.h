// A plain Vision Transformer over timm's tensor names.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "model/linear.h"
#include "model/network.h"
#include "model/vit_params.h"
#include "model/weights.h"

namespace moextract::model {

/// Makes the MLP of one block from the network's tensors.
using MlpFactory =
    std::function<std::unique_ptr<Mlp>(std::int64_t layer, const TensorMap& tensors, Precision precision)>;

/// "blocks.<layer>.mlp."
std::string mlp_prefix(std::int64_t layer);

/// The block's trained MLP from blocks.<layer>.mlp.fc1 / fc2, any number of hidden neurons.
std::unique_ptr<Mlp> make_dense_mlp(std::int64_t layer, const TensorMap& tensors,
                                    Precision precision = Precision::float32);

/// Holds references to tensors, no copies: making one is cheap, so a trainer makes one for each graph it records.
class Vit : public Network {
 public:
  /// Tensors are as checked by check_vit_tensors. `make_mlp` decides what stands in each block. `precision` is that of
  /// inference; where gradients are recorded LibTorch computes in the tensors' own type. On a device (device.h) without
  /// gradients it computes all but the products of bfloat16 in float32.
  Vit(const VitParams& params, const TensorMap& tensors, const MlpFactory& make_mlp = make_dense_mlp,
      Precision precision = Precision::float32);

  at::Tensor logits(const at::Tensor& images, const Observer& observer = {}) const override;
  void record(const at::Tensor& images, std::span<const std::int64_t> rows, bool hidden,
              const Recorder& recorder) const override;
  at::Tensor embed(const at::Tensor& images) const override;
  at::Tensor advance(std::int64_t layer, const at::Tensor& tokens, const Observer& observer = {}) const override;
  at::Tensor read_out(const at::Tensor& tokens) const override;
  std::int64_t layers() const override { return params_.depth; }
  const Mlp& mlp(std::int64_t layer) const override { return *blocks_.at(static_cast<std::size_t>(layer)).mlp; }
  std::int64_t tokens() const override { return params_.tokens(); }
  std::int64_t mlp_tokens(std::int64_t layer) const override { return params_.mlp_tokens(layer); }
  double other_macs() const override;
  const VitParams& params() const { return params_; }

 private:
  struct Norm {
    at::Tensor weight, bias;
  };
  struct Block {
    Norm norm1, norm2;
    Linear qkv, proj;
    Linear q, kv;  // qkv in two parts, in a last block: it may answer for some of its tokens alone
    std::unique_ptr<Mlp> mlp;
  };
  at::Tensor norm(const at::Tensor& x, const Norm& norm) const;
  /// Answers for the first `queries` tokens, which look at all.
  at::Tensor attention(const Block& block, const at::Tensor& x, std::int64_t queries) const;
  /// The pictures' patches as rows of width, [n, patches, width].
  at::Tensor patches(const at::Tensor& images) const;
  /// Logits from what the heads read, after the last norm: [n, prefix tokens or 1, width].
  at::Tensor answer(const at::Tensor& read) const;

  // Inference on a CPU, in vit_inference.cpp; whether what follows from x goes that way.
  bool infers(const at::Tensor& x) const;
  at::Tensor infer_embed(const at::Tensor& images) const;
  at::Tensor infer_block(std::int64_t layer, const at::Tensor& tokens, const Observer& observer) const;
  at::Tensor infer_read_out(const at::Tensor& tokens) const;
  void infer_record(const at::Tensor& images, std::span<const std::int64_t> rows, bool hidden,
                    const Recorder& recorder) const;
  /// Tokens that a block answers for: the same number of each image, its first ones or `rows` of [images, tokens].
  struct Queries {
    std::int64_t of_image;
    std::span<const std::int64_t> rows = {};
  };
  /// x [images, tokens, d], whose memory may be overwritten -> [images, queries, d].
  at::Tensor attend_and_add(const Block& block, const at::Tensor& x, const Queries& queries) const;
  at::Tensor normalised(const at::Tensor& x, const Norm& norm) const;
  at::Tensor mean_token(const at::Tensor& x) const;

  VitParams params_;
  Precision precision_;
  at::Tensor patch_weight_, patch_bias_, class_token_, distillation_token_, position_;
  Linear patch_;  // of a patch's values in the order of patch_weight_
  Norm norm_;
  Linear head_, head_distilled_;
  std::vector<Block> blocks_;
};

/// Shapes that a dense Vit of these parameters has, by timm's names.
std::map<std::string, std::vector<std::int64_t>> vit_tensor_shapes(const VitParams& params);

/// Throws UserError (model) that names the file, the tensor and both shapes if one is missing, unknown or of another
/// shape; MLP tensors are left to the MLPs if `with_mlps` is false. Accepts norm. for fc_norm. of models without a
/// class token.
void check_vit_tensors(const std::filesystem::path& file, const VitParams& params, TensorMap& tensors, bool with_mlps);

/// Fresh weights: matrices drawn from a normal distribution cut at two deviations, of deviation 1 / sqrt(fan in);
/// positions 0.02, biases zero, norms one. Depends on the seed alone.
TensorMap initial_vit_tensors(const VitParams& params, std::uint64_t seed);

}  // namespace moextract::model
