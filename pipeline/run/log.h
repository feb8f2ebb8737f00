// What the program says while it runs: to standard error, from rank 0; other ranks only warn. Results go to standard
// output.
#pragma once

#include <spdlog/logger.h>

#include <memory>

namespace moextract::run {

/// A logger for this rank. `verbose`: debug lines too. Warnings of every rank carry the rank's number.
std::shared_ptr<spdlog::logger> make_logger(int rank, int ranks, bool verbose);

}  // namespace moextract::run
