// Ownership and errors of the HDF5 C library: one id, one owner; a failed call throws with the library's own reason.
// Private to this folder: no header outside it includes HDF5.
#pragma once

#include <hdf5.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace moextract::store {

/// A failed HDF5 call. Never leaves this folder: reader and writer turn it into a UserError that names the file.
class Hdf5Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Innermost message of the HDF5 error stack, the one that says what happened and not who called whom.
std::string hdf5_reason();

/// Returns what HDF5 returned, or throws Hdf5Error ("cannot <action>: <reason>") if it is negative.
template <class Result>
Result checked(Result result, const char* action) {
  if (result < 0) throw Hdf5Error(std::string("cannot ") + action + ": " + hdf5_reason());
  return result;
}

/// Silences HDF5's own printing, switches file locking off and keeps HDF5 from cleaning up at exit; to be called before
/// anything else in every public entry. Cheap after the first time. The silence is per thread in thread-safe builds of
/// HDF5, hence not once a process.
void prepare_hdf5();

/// Owns one HDF5 id.
class Hdf5Handle {
 public:
  using Close = herr_t (*)(hid_t);

  Hdf5Handle() = default;
  /// Takes ownership of `id`; throws Hdf5Error if it is an error.
  Hdf5Handle(hid_t id, Close close, const char* action) : id_(checked(id, action)), close_(close) {}
  ~Hdf5Handle() { close_quietly(); }
  Hdf5Handle(Hdf5Handle&& other) noexcept : id_(std::exchange(other.id_, H5I_INVALID_HID)), close_(other.close_) {}
  Hdf5Handle& operator=(Hdf5Handle&& other) noexcept {
    if (this != &other) {
      close_quietly();
      id_ = std::exchange(other.id_, H5I_INVALID_HID);
      close_ = other.close_;
    }
    return *this;
  }

  hid_t get() const { return id_; }
  explicit operator bool() const { return id_ >= 0; }

  /// Closes and throws Hdf5Error if that fails: closing is where the last bytes are written.
  void close(const char* action) {
    if (id_ >= 0) checked(close_(std::exchange(id_, H5I_INVALID_HID)), action);
  }
  void close_quietly() noexcept {
    if (id_ >= 0) close_(std::exchange(id_, H5I_INVALID_HID));
  }

 private:
  hid_t id_ = H5I_INVALID_HID;
  Close close_ = nullptr;
};

}  // namespace moextract::store
