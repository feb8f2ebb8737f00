// Error text and process-wide settings of HDF5.
#include "store/hdf5_handle.h"

#include <cstdlib>
#include <mutex>
#include <string_view>

namespace moextract::store {
namespace {

// Walked upwards, the first entry is the innermost.
herr_t keep_first(unsigned n, const H5E_error2_t* entry, void* text) {
  if (n == 0 && entry->desc != nullptr) *static_cast<std::string*>(text) = entry->desc;
  return 0;
}

/// "file write failed: No space left on device" out of a page of times, descriptors and addresses.
std::string shortened(std::string text) {
  constexpr std::string_view kSystemReason = "error message = '";
  const std::size_t start = text.find(kSystemReason);
  if (start == std::string::npos) return text;
  const std::size_t reason = start + kSystemReason.size();
  return text.substr(0, text.find(':')) + ": " + text.substr(reason, text.find('\'', reason) - reason);
}

}  // namespace

std::string hdf5_reason() {
  std::string text;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, &text);
  H5Eclear2(H5E_DEFAULT);
  return text.empty() ? "HDF5 gives no reason" : shortened(std::move(text));
}

void prepare_hdf5() {
  static std::once_flag once;
  std::call_once(once, [] {
    // When closing a file fails (disk full), HDF5 1.10 frees it but keeps its id, and falls over that id in its own
    // clean-up at exit. We close everything ourselves and can do without.
    H5dont_atexit();
#if !H5_VERSION_GE(1, 10, 7)
    // Older than H5Pset_file_locking: the environment is the only switch, and HDF5 reads it when it starts.
    ::setenv("HDF5_USE_FILE_LOCKING", "FALSE", 0);
#endif
  });
  thread_local bool silent = false;
  if (!silent) {
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
    silent = true;
  }
}

}  // namespace moextract::store
