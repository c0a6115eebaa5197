// Sums over axes, and conversions: what a gradient needs after its product where the input was broadcast, or is of
// another type.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "core/backend.hpp"
#include "core/block_grid.hpp"
#include "cpu/dispatch.hpp"
#include "cpu/float_environment.hpp"
#include "cpu/pack.hpp"
#include "cpu/parallel.hpp"
#include "maskmm/stream.hpp"

namespace maskmm::cpu {
namespace {

constexpr std::int64_t kPiece = 512;  // elements that are summed side by side

/// The axes but the last, as an odometer: those that are kept, or those that are summed.
struct Axes {
  Dims sizes, strides_bytes;
  std::int64_t count = 1;

  void add(std::int64_t size, std::int64_t stride_bytes) {
    sizes.push_back(size);
    strides_bytes.push_back(stride_bytes);
    count *= size;
  }
  std::int64_t offset_bytes(std::int64_t index) const {
    std::int64_t offset = 0;
    for (int axis = sizes.size() - 1; axis >= 0; --axis) {
      offset += index % sizes[axis] * strides_bytes[axis];
      index /= sizes[axis];
    }
    return offset;
  }
};

template <class T>
struct SumAxes {
  const View& from;
  const MutableView& to;
  Axes kept, summed;
  std::int64_t columns = 1, out_columns = 1;  // of the last axis

  SumAxes(const View& from_, const MutableView& to_) : from(from_), to(to_) {
    if (from.ndim() > 0) columns = from.shape.back(), out_columns = to.shape.back();
    for (int axis = 0; axis + 1 < from.ndim(); ++axis) {
      Axes& axes = to.shape[axis] == from.shape[axis] ? kept : summed;
      axes.add(from.shape[axis], from.strides_bytes[axis]);
    }
  }

  std::int64_t pieces() const { return core::ceil_div(out_columns, kPiece); }

  void piece(std::int64_t index) const {
    const std::int64_t row = index / pieces(), first = index % pieces() * kPiece;
    const std::int64_t item = static_cast<std::int64_t>(size_of(from.dtype));
    const std::byte* const begin = static_cast<const std::byte*>(from.data) + kept.offset_bytes(row);
    const bool joins = out_columns != columns;  // the last axis is summed too
    const std::int64_t end = joins ? columns : std::min(first + kPiece, columns);
    T sums[kPiece] = {}, values[kPiece];
    for (std::int64_t part = 0; part < summed.count; ++part) {
      const std::byte* const line = begin + summed.offset_bytes(part);
      for (std::int64_t column = joins ? 0 : first, count; column < end; column += count) {
        count = std::min(kPiece, end - column);
        const Source source{line + column * item, from.dtype, from.dtype, 0, item};
        pack<T>(kernel_set(), source, 1, count, values, count, count);
        for (std::int64_t i = 0; i < count; ++i) sums[i] += values[i];
      }
    }
    if (joins) {
      for (std::int64_t i = 1; i < kPiece; ++i) sums[0] += sums[i];
    }
    const std::int64_t out_item = static_cast<std::int64_t>(size_of(to.dtype));
    auto* const out = static_cast<std::byte*>(const_cast<void*>(to.data)) + (row * out_columns + first) * out_item;
    unpack<T>(kernel_set(), sums, kPiece, 1, std::min(kPiece, out_columns - first),
              {out, to.dtype, out_columns * out_item, out_item});
  }

  void run() const {
    const double work = static_cast<double>(kept.count * summed.count) * static_cast<double>(columns);
    parallel_for(kept.count * pieces(), work < 1e5 ? 1 : num_threads(), [this](std::int64_t index) {
      const FloatEnvironment environment;
      piece(index);
    });
  }
};

}  // namespace

void sum_axes(const View& from, const MutableView& to) {
  if (from.dtype == Dtype::float64 || to.dtype == Dtype::float64) {
    SumAxes<double>(from, to).run();
  } else {
    SumAxes<float>(from, to).run();
  }
}

}  // namespace maskmm::cpu
