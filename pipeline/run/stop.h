// A polite request to stop: SIGTERM, SIGUSR2 (Slurm's warning before the time limit), SIGINT, or the job's end drawing
// near. It sets a flag; stages look at it where they can save, agree, save, and leave with ExitCode::resume.
#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace moextract::run {

/// A second signal of the same kind has its usual effect.
void install_stop_handlers();
/// Cheap; any thread.
bool stop_requested() noexcept;
/// For tests and for limits that are not signals.
void request_stop() noexcept;
/// From then on stop_requested() is true. The earliest of several calls counts.
void stop_at(std::chrono::system_clock::time_point time) noexcept;
/// "signal 15 (Terminated)", "the time limit", or empty: this rank was not asked, another one was.
std::string stop_reason();

/// When the job ends, by Slurm's SLURM_JOB_END_TIME (seconds since 1970), if the environment says so.
std::optional<std::chrono::system_clock::time_point> slurm_end_time();

}  // namespace moextract::run
