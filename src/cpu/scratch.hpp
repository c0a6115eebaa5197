// Scratch: memory of one thread that calls use again and again.
#pragma once

#include <cstddef>

namespace maskmm::cpu {

class Scratch {
 public:
  Scratch() = default;
  ~Scratch() { release(); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  /// At least `bytes`, uninitialised, aligned to a cache line; valid until the next call. Throws std::bad_alloc.
  std::byte* get(std::size_t bytes) {
    if (bytes > size_) grow(bytes);
    return data_;
  }
  void release();

 private:
  void grow(std::size_t bytes);

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace maskmm::cpu
