// Memory for arrays as large as the rows: not written before it is used, so that the threads that fill it also have its
// pages made, and in large pages where the system has them.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <type_traits>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace moextract::cluster {

/// `size` values of any content. Move-only.
template <class T>
class LargeArray {
 public:
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

  LargeArray() = default;
  explicit LargeArray(std::size_t size) : size_(size) {
    constexpr std::size_t kLargePage = std::size_t{1} << 21;
    const std::size_t least = size * sizeof(T) >= 4 * kLargePage ? kLargePage : 64;
    const std::size_t bytes = (size * sizeof(T) + least - 1) / least * least;
    if (bytes == 0) return;
    data_.reset(static_cast<T*>(std::aligned_alloc(least, bytes)));
    if (!data_) throw std::bad_alloc();
#if defined(__linux__)
    if (least == kLargePage) ::madvise(data_.get(), bytes, MADV_HUGEPAGE);  // a wish: refused, pages are small
#endif
  }

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  std::size_t size() const { return size_; }
  T& operator[](std::size_t i) { return data_.get()[i]; }
  const T& operator[](std::size_t i) const { return data_.get()[i]; }

 private:
  struct Free {
    void operator()(T* at) const { std::free(at); }
  };
  std::unique_ptr<T[], Free> data_;
  std::size_t size_ = 0;
};

}  // namespace moextract::cluster
