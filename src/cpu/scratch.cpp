#include "cpu/scratch.hpp"

#include <cstdlib>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace maskmm::cpu {

void Scratch::release() {
  std::free(data_);
  data_ = nullptr;
  size_ = 0;
}

void Scratch::grow(std::size_t bytes) {
  release();
  constexpr std::size_t kLine = 64, kHugePage = std::size_t{2} << 20;
  // Large pages spare the walk through packed panels most misses of the address translation.
  const std::size_t alignment = bytes >= kHugePage ? kHugePage : kLine;
  if (bytes > static_cast<std::size_t>(-1) - alignment) throw std::bad_alloc();
  const std::size_t rounded = (bytes + kLine - 1) / kLine * kLine;
  void* data = nullptr;
  if (posix_memalign(&data, alignment, rounded) != 0) throw std::bad_alloc();
#if defined(__linux__)
  if (alignment == kHugePage) madvise(data, rounded, MADV_HUGEPAGE);
#endif
  data_ = static_cast<std::byte*>(data);
  size_ = rounded;
}

}  // namespace maskmm::cpu
