// Dims and View: what the core sees of an array, without owning it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "maskmm/dtype.hpp"
#include "maskmm/stream.hpp"

namespace maskmm {

inline constexpr int kMaxDims = 64;  // as NumPy

/// A short list of 64-bit integers (a shape, or strides), without allocation. Throws shape_error past kMaxDims.
class Dims {
 public:
  Dims() = default;
  Dims(std::initializer_list<std::int64_t> values) : Dims(std::span(values.begin(), values.size())) {}
  Dims(std::span<const std::int64_t> values);
  Dims(const Dims& other) : Dims(std::span<const std::int64_t>(other)) {}
  Dims& operator=(const Dims& other);

  int size() const { return size_; }
  bool empty() const { return size_ == 0; }
  std::int64_t& operator[](int i) { return values_[i]; }
  std::int64_t operator[](int i) const { return values_[i]; }
  std::int64_t back() const { return values_[size_ - 1]; }
  void push_back(std::int64_t value);
  void resize(int size, std::int64_t fill = 0);
  std::int64_t* begin() { return values_; }
  std::int64_t* end() { return values_ + size_; }
  const std::int64_t* begin() const { return values_; }
  const std::int64_t* end() const { return values_ + size_; }
  operator std::span<const std::int64_t>() const { return {values_, static_cast<std::size_t>(size_)}; }
  bool operator==(const Dims& other) const;

 private:
  int size_ = 0;
  std::int64_t values_[kMaxDims];
};

/// As Python prints a tuple: "(4, 8)", "(4,)", "()".
std::string to_string(const Dims& dims);

/// An array that somebody else owns. Strides are in bytes and may be zero, negative or no multiple of the element size.
struct View {
  const void* data = nullptr;
  Dtype dtype = Dtype::float32;
  Dims shape;
  Dims strides_bytes;
  Device device;

  View() = default;
  /// Contiguous, row-major.
  View(const void* data_, Dtype dtype_, const Dims& shape_, Device device_ = Device::cpu);
  View(const void* data_, Dtype dtype_, const Dims& shape_, const Dims& strides_bytes_, Device device_);
  int ndim() const { return shape.size(); }
  /// Axes -1 and -2 swapped, without a copy. Needs two axes or more.
  View transposed() const;
};

/// A View that may be written.
struct MutableView : View {
  MutableView() = default;
  MutableView(void* data_, Dtype dtype_, const Dims& shape_, Device device_ = Device::cpu)
      : View(data_, dtype_, shape_, device_) {}
  MutableView(void* data_, Dtype dtype_, const Dims& shape_, const Dims& strides_bytes_, Device device_)
      : View(data_, dtype_, shape_, strides_bytes_, device_) {}
};

}  // namespace maskmm
