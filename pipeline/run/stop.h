// A polite request to stop: SIGTERM, SIGUSR2 (Slurm's warning before the time limit) and SIGINT set a flag; stages look
// at it where they can save. A second signal of the same kind has its usual effect.
#pragma once

namespace moextract::run {

void install_stop_handlers();
bool stop_requested() noexcept;
/// For tests and for limits that are not signals.
void request_stop() noexcept;

}  // namespace moextract::run
