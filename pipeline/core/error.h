// What ends a request: a user's mistake is a UserError with an exit code and the next step; what only a bug can cause
// is an assertion. Nothing else is thrown on purpose.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace moextract {

/// Exit codes of the program, documented in docs/guide.md. They are part of the interface: scripts test them.
enum class ExitCode : int {
  ok = 0,
  other = 1,        ///< an error of a library that says no more than its text
  usage = 2,        ///< wrong command line
  config = 3,       ///< wrong configuration file or --set
  input = 4,        ///< missing, truncated or foreign input data
  model = 5,        ///< weights that do not fit the model
  numerics = 6,     ///< NaN or infinity in weights or activations, diverged training, singular system
  storage = 7,      ///< cannot write, disk full
  conflict = 8,     ///< the output folder belongs to something else
  distributed = 9,  ///< launcher mismatch, a lost rank, a hang
  resume = 75,      ///< interrupted after saving: run the same command again (EX_TEMPFAIL)
  bug = 70,         ///< an assertion of ours failed (EX_SOFTWARE)
};

/// A mistake the user can mend. The message names the file, line, key or tensor and the next step.
class UserError : public std::runtime_error {
 public:
  UserError(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const noexcept { return code_; }

 private:
  ExitCode code_;
};

/// Throws UserError with a formatted message.
template <class... Args>
[[noreturn]] void fail(ExitCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw UserError(code, fmt::format(format, std::forward<Args>(args)...));
}

/// Thrown by MOEX_ASSERT.
class BugError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

[[noreturn]] void assertion_failed(const char* condition, const char* file, int line, const std::string& note);

}  // namespace moextract

/// Only for what no input can trigger; stays on in release builds. `note` is a std::string or literal.
#define MOEX_ASSERT(condition, note) \
  ((condition) ? static_cast<void>(0) : ::moextract::assertion_failed(#condition, __FILE__, __LINE__, (note)))
