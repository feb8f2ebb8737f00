// Maps exceptions of any origin to exit code, rank and text.
#include "comm/failure.h"

#include <new>

#include "comm/communicator.h"

namespace moextract::comm {

Failure describe_failure(const std::exception_ptr& error, int rank) {
  MOEX_ASSERT(error != nullptr, "describe_failure needs an exception");
  const auto here = [rank](ExitCode code, const char* text) {
    return Failure{code, rank, fmt::format("rank {}: {}", rank, text)};
  };
  try {
    std::rethrow_exception(error);
  } catch (const RemoteFailure& e) {
    return {e.code(), e.rank(), e.what()};
  } catch (const UserError& e) {
    return here(e.code(), e.what());
  } catch (const BugError& e) {
    return here(ExitCode::bug, e.what());
  } catch (const std::bad_alloc&) {
    // what() is "std::bad_alloc", which tells a user nothing.
    return here(ExitCode::other, "out of host memory");
  } catch (const std::exception& e) {
    return here(ExitCode::other, e.what());
  } catch (...) {
    return here(ExitCode::other, "an exception of unknown type");
  }
}

}  // namespace moextract::comm
