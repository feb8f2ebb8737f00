#include "run/log.h"

#include <fmt/format.h>
#include <spdlog/sinks/stdout_color_sinks.h>

namespace moextract::run {

std::shared_ptr<spdlog::logger> make_logger(int rank, int ranks, bool verbose) {
  auto logger = std::make_shared<spdlog::logger>("moextract", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  logger->set_pattern(ranks > 1 ? fmt::format("[%H:%M:%S] %^%l%$ (rank {}) %v", rank) : "[%H:%M:%S] %^%l%$ %v");
  const auto normal = verbose ? spdlog::level::debug : spdlog::level::info;
  logger->set_level(rank == 0 ? normal : spdlog::level::warn);
  logger->flush_on(spdlog::level::info);
  return logger;
}

}  // namespace moextract::run
