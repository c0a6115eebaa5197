#include "maskmm/array.hpp"

#include <cstring>
#include <new>
#include <utility>

#include "core/backend.hpp"
#include "core/scratch_array.hpp"
#include "maskmm/error.hpp"

namespace maskmm {
namespace {

constexpr std::align_val_t kAlignment{64};

std::int64_t element_count(const Dims& shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) {
    if (size < 0) throw shape_error("shape: sizes are not negative, got " + to_string(shape));
    if (size == 0) return 0;
  }
  for (const std::int64_t size : shape) {
    if (__builtin_mul_overflow(count, size, &count)) throw std::bad_alloc();
  }
  return count;
}

std::shared_ptr<void> allocate(std::int64_t count, Dtype dtype, const Stream& stream) {
  std::int64_t bytes;
  if (__builtin_mul_overflow(count, static_cast<std::int64_t>(size_of(dtype)), &bytes)) throw std::bad_alloc();
  if (bytes == 0) bytes = 1;
  if (stream.device.type == DeviceType::gpu) return cuda::allocate(static_cast<std::size_t>(bytes), stream);
  return {::operator new(static_cast<std::size_t>(bytes), kAlignment),
          [](void* memory) { ::operator delete(memory, kAlignment); }};
}

/// Copies the elements from axis `axis` on in row-major order; returns the end of what was written.
std::byte* gather(const View& view, int axis, const std::byte* from, std::byte* to) {
  const std::size_t item = size_of(view.dtype);
  if (axis == view.ndim()) {
    std::memcpy(to, from, item);
    return to + item;
  }
  for (std::int64_t i = 0; i < view.shape[axis]; ++i)
    to = gather(view, axis + 1, from + i * view.strides_bytes[axis], to);
  return to;
}

bool is_contiguous(const View& view) {
  const View contiguous(view.data, view.dtype, view.shape);
  for (int axis = 0; axis < view.ndim(); ++axis) {
    if (view.shape[axis] != 1 && view.strides_bytes[axis] != contiguous.strides_bytes[axis]) return false;
  }
  return true;
}

}  // namespace

array::array(const Dims& shape, Dtype dtype, Device device)
    : storage_(allocate(element_count(shape), dtype, Stream{device})) {
  view_ = View(storage_.get(), dtype, shape, device);
}

array::array(const View& view, Device device) : array(view.shape, view.dtype, device) {
  const std::int64_t count = element_count(view.shape);
  if (count == 0) return;
  const std::size_t bytes = static_cast<std::size_t>(count) * size_of(view.dtype);
  if (view.device.type == DeviceType::cpu && device.type == DeviceType::cpu) {
    gather(view, 0, static_cast<const std::byte*>(view.data), static_cast<std::byte*>(storage_.get()));
  } else if (is_contiguous(view)) {
    cuda::copy(storage_.get(), device, view.data, view.device, bytes);
  } else if (view.device.type == DeviceType::cpu) {
    const array packed(view, Device::cpu);
    cuda::copy(storage_.get(), device, packed.view_.data, Device::cpu, bytes);
  } else {
    throw unsupported_error("array: a strided array on a GPU cannot be copied; make it contiguous first");
  }
}

array::array(const void* values, std::size_t count, Dtype dtype, const Dims& shape) : array(shape, dtype) {
  if (static_cast<std::int64_t>(count) != element_count(shape)) {
    throw shape_error("array: " + std::to_string(count) + " values do not fill the shape " + to_string(shape));
  }
  if (count != 0) std::memcpy(storage_.get(), values, count * size_of(dtype));
}

std::int64_t array::size() const { return element_count(view_.shape); }

MutableView array::mutable_view() {
  return MutableView(const_cast<void*>(view_.data), view_.dtype, view_.shape, view_.strides_bytes, view_.device);
}

array array::borrow(const MutableView& view, std::shared_ptr<void> owner) {
  array result;
  result.view_ = view;
  result.storage_ = std::move(owner);
  return result;
}

array core::scratch_array(const Dims& shape, Dtype dtype, const Stream& stream) {
  auto memory = allocate(element_count(shape), dtype, stream);
  const MutableView view(memory.get(), dtype, shape, stream.device);
  return array::borrow(view, std::move(memory));
}

void* array::data_as(Dtype dtype) const {
  if (dtype != view_.dtype) {
    throw type_error(std::string("array: data<") + name_of(dtype) + "> of an array of " + name_of(view_.dtype));
  }
  return const_cast<void*>(view_.data);
}

}  // namespace maskmm
