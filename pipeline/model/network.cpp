#include "model/network.h"

namespace moextract::model {

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
