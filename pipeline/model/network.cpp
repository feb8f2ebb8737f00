#include "model/network.h"

#include "core/error.h"
#include "model/index_tensor.h"

namespace moextract::model {

void Network::record(const at::Tensor& images, std::span<const std::int64_t> rows, bool hidden,
                     const Recorder& recorder) const {
  const at::Tensor index = index_tensor(rows).to(images.device());
  const auto see = [&](std::int64_t layer, const MlpTrace& trace) {
    MOEX_ASSERT(trace.x.size(1) == tokens(), "rows of tokens that do not reach the MLP");
    recorder(layer, rows_of(trace.x, index), hidden ? rows_of(trace.h, index) : at::Tensor());
  };
  logits(images, Observer(see, hidden));
}

double macs_per_image(const Network& network, const TokenShares& shares) {
  double macs = network.other_macs();
  for (std::int64_t layer = 0; layer < network.layers(); ++layer) {
    const std::span<const double> share = static_cast<std::size_t>(layer) < shares.size()
                                              ? std::span<const double>(shares[layer])
                                              : std::span<const double>();
    macs += static_cast<double>(network.mlp_tokens(layer)) * network.mlp(layer).macs_per_token(share);
  }
  return macs;
}

}  // namespace moextract::model
