// array: the small owning type for C++ users and results.
#pragma once

#include <initializer_list>
#include <memory>
#include <span>

#include "maskmm/view.hpp"

namespace maskmm {

/// Row-major storage with shared ownership: copies of an array share its elements, as in MLX.
class array {
 public:
  array() = default;
  /// Uninitialised. Throws shape_error for negative sizes, std::bad_alloc where memory ends.
  array(const Dims& shape, Dtype dtype, Device device = Device::cpu);
  /// Elements of `view`, copied in row-major order (between devices too).
  explicit array(const View& view, Device device = Device::cpu);
  /// Values in row-major order; throws shape_error where their number does not fit the shape.
  template <class T>
  array(std::initializer_list<T> values, const Dims& shape)
      : array(std::span<const T>(values.begin(), values.size()), shape) {}
  template <class T>
  array(std::span<const T> values, const Dims& shape) : array(values.data(), values.size(), dtype_of<T>, shape) {}

  const Dims& shape() const { return view_.shape; }
  Dtype dtype() const { return view_.dtype; }
  Device device() const { return view_.device; }
  std::int64_t size() const;  // number of elements
  /// The elements; throws type_error where T is not the element type.
  template <class T>
  T* data() {
    return static_cast<T*>(data_as(dtype_of<T>));
  }
  template <class T>
  const T* data() const {
    return static_cast<const T*>(data_as(dtype_of<T>));
  }

  operator const View&() const { return view_; }
  const View& view() const { return view_; }
  MutableView mutable_view();
  View transposed() const { return view_.transposed(); }

  /// An array over memory that `owner` keeps alive, or else the caller.
  static array borrow(const MutableView& view, std::shared_ptr<void> owner = nullptr);

 private:
  array(const void* values, std::size_t count, Dtype dtype, const Dims& shape);
  void* data_as(Dtype dtype) const;

  View view_;
  std::shared_ptr<void> storage_;
};

}  // namespace maskmm
