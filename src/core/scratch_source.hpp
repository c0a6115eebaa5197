// Scratch memory of a call on a GPU, from elsewhere than the library's own pool.
#pragma once

#include <cstddef>

namespace maskmm::core {

class ScratchSource {
 public:
  /// Memory at a multiple of 16 that work enqueued on the call's stream may use. Throws std::bad_alloc.
  virtual std::byte* allocate(std::size_t bytes) = 0;
  /// Before the enqueued work is done: what the memory is used for next must come after it in the stream.
  virtual void free(std::byte* memory, std::size_t bytes) noexcept = 0;

 protected:
  ~ScratchSource() = default;
};

}  // namespace maskmm::core
