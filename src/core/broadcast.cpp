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

}  // namespace maskmm::core
