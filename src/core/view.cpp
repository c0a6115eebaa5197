#include "maskmm/view.hpp"

#include <algorithm>

#include "maskmm/error.hpp"

namespace maskmm {

Dims::Dims(std::span<const std::int64_t> values) {
  resize(static_cast<int>(std::min<std::size_t>(values.size(), kMaxDims + 1)));
  std::copy(values.begin(), values.end(), values_);
}

Dims& Dims::operator=(const Dims& other) {
  size_ = other.size_;
  std::copy(other.begin(), other.end(), values_);
  return *this;
}

void Dims::push_back(std::int64_t value) { resize(size_ + 1, value); }

void Dims::resize(int size, std::int64_t fill) {
  if (size > kMaxDims) throw shape_error("an array has more than " + std::to_string(kMaxDims) + " axes");
  for (int i = size_; i < size; ++i) values_[i] = fill;
  size_ = size;
}

bool Dims::operator==(const Dims& other) const { return std::equal(begin(), end(), other.begin(), other.end()); }

std::string to_string(const Dims& dims) {
  std::string text = "(";
  for (int i = 0; i < dims.size(); ++i) {
    text += std::to_string(dims[i]);
    if (i + 1 < dims.size()) text += ", ";
  }
  return text + (dims.size() == 1 ? ",)" : ")");
}

View::View(const void* data_, Dtype dtype_, const Dims& shape_, Device device_)
    : data(data_), dtype(dtype_), shape(shape_), device(device_) {
  strides_bytes.resize(shape.size());
  std::int64_t stride = static_cast<std::int64_t>(size_of(dtype));
  for (int i = shape.size() - 1; i >= 0; --i) {
    strides_bytes[i] = stride;
    // An absurd shape must not overflow here: make_problem and array refuse it.
    if (__builtin_mul_overflow(stride, std::max<std::int64_t>(shape[i], 1), &stride)) stride = 0;
  }
}

View::View(const void* data_, Dtype dtype_, const Dims& shape_, const Dims& strides_bytes_, Device device_)
    : data(data_), dtype(dtype_), shape(shape_), strides_bytes(strides_bytes_), device(device_) {
  if (shape.size() != strides_bytes.size()) {
    throw shape_error("strides: expected one for each axis of " + to_string(shape) + ", got " +
                      to_string(strides_bytes));
  }
}

View View::transposed() const {
  if (ndim() < 2) throw shape_error("transposed: expected at least 2 axes, got " + to_string(shape));
  View result = *this;
  std::swap(result.shape[ndim() - 1], result.shape[ndim() - 2]);
  std::swap(result.strides_bytes[ndim() - 1], result.strides_bytes[ndim() - 2]);
  return result;
}

}  // namespace maskmm
