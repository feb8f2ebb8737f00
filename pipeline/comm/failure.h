// What a rank tells the others about the error it met: an exception turned into data that can be sent.
#pragma once

#include <exception>
#include <string>

#include "core/error.h"

namespace moextract::comm {

struct Failure {
  ExitCode code = ExitCode::other;
  int rank = 0;         ///< where it happened first
  std::string message;  ///< "rank 2: cannot read ..."
};

/// `error` must not be null. UserError keeps its code, BugError becomes ExitCode::bug, all else ExitCode::other. A
/// RemoteFailure keeps its rank and text, so that an error handed on several times still names the rank it came from,
/// once.
Failure describe_failure(const std::exception_ptr& error, int rank);

}  // namespace moextract::comm
