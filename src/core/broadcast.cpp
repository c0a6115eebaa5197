#include "core/broadcast.hpp"

#include <algorithm>

namespace maskmm::core {

bool broadcast_shapes(Dims& into, const Dims& other) {
  const int axes = std::max(into.size(), other.size());
  Dims result;
  result.resize(axes, 1);
  std::copy(into.begin(), into.end(), result.end() - into.size());
  for (int i = 1; i <= other.size(); ++i) {
    std::int64_t& size = result[axes - i];
    const std::int64_t with = other[other.size() - i];
    if (size == 1) size = with;
    if (with != 1 && with != size) return false;
  }
  into = result;
  return true;
}

Dims leading(const Dims& dims, int axes) {
  return Dims(std::span<const std::int64_t>(dims).first(static_cast<std::size_t>(std::max(axes, 0))));
}

View broadcast_to(const View& view, const Dims& batch, const Dims& core) {
  View result;
  result.data = view.data;
  result.dtype = view.dtype;
  result.device = view.device;
  result.shape = batch;
  for (const std::int64_t size : core) result.shape.push_back(size);
  result.strides_bytes.resize(result.ndim(), 0);
  for (int i = 1; i <= view.ndim(); ++i) {
    const bool spread = view.shape[view.ndim() - i] == 1;
    result.strides_bytes[result.ndim() - i] = spread ? 0 : view.strides_bytes[view.ndim() - i];
  }
  return result;
}

View with_matrix_axes(const View& view, bool has_rows, bool has_cols) {
  const int own_axes = (has_rows ? 1 : 0) + (has_cols ? 1 : 0);
  View result = view;
  result.shape = leading(view.shape, view.ndim() - own_axes);
  result.strides_bytes = leading(view.strides_bytes, view.ndim() - own_axes);
  const auto push = [&](bool has, int axis_from_right) {
    const bool there = has && axis_from_right <= view.ndim();
    result.shape.push_back(there ? view.shape[view.ndim() - axis_from_right] : 1);
    result.strides_bytes.push_back(there ? view.strides_bytes[view.ndim() - axis_from_right] : 0);
  };
  push(has_rows, own_axes);
  push(has_cols, 1);
  return result;
}

}  // namespace maskmm::core
