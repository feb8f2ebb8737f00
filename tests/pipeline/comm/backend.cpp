// Walks the back ends of this test program.
#include "tests/pipeline/comm/backend.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "comm/pieces.h"

namespace moextract::comm {
namespace {

/// Eight doubles a call, and two or so elements a rank: every loop over pieces turns, and ends in a part of a piece.
constexpr PieceSizes kTinyPieces{.mpi_bytes = 64, .ordered_bytes = 100};

}  // namespace

void on_every_backend(const Body& body) {
  for (const PieceSizes& sizes : {PieceSizes{}, kTinyPieces}) {
    piece_sizes() = sizes;
    for (const Backend& backend : backends()) {
      backend.on_ranks([&](Communicator& ranks) {
        SCOPED_TRACE(fmt::format("{} rank {} of {}, pieces of {} bytes", backend.name, ranks.rank(), ranks.size(),
                                 sizes.mpi_bytes));
        body(ranks);
      });
    }
  }
  piece_sizes() = PieceSizes{};
}

}  // namespace moextract::comm
