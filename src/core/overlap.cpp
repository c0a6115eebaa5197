#include "core/overlap.hpp"

#include <algorithm>
#include <cstdint>

#include "core/block_grid.hpp"

namespace maskmm::core {
namespace {

using Int = __int128;  // sums of strides times sizes pass 64 bits where arrays are broadcast

/// All sums of stride * u with 0 <= u < count.
struct Term {
  Int stride;
  Int count;
};

struct Terms {
  Term items[2 * kMaxDims + 2];
  int size = 0;
  void add(Int stride, Int count) {
    if (count > 1 && stride != 0) items[size++] = {stride, count};
  }
};

bool is_empty(const View& view) { return std::find(view.shape.begin(), view.shape.end(), 0) != view.shape.end(); }

/// Adds the byte offsets of a view with positive strides; returns the lowest address.
Int add_offsets(const View& view, Terms& terms) {
  Int lowest = static_cast<Int>(reinterpret_cast<std::uintptr_t>(view.data));
  for (int axis = 0; axis < view.ndim(); ++axis) {
    const Int stride = view.strides_bytes[axis];
    if (stride < 0) lowest += stride * (view.shape[axis] - 1);
    terms.add(stride < 0 ? -stride : stride, view.shape[axis]);
  }
  terms.add(1, static_cast<Int>(size_of(view.dtype)));
  return lowest;
}

/// Sorts by stride, ascending, and joins terms that together give every multiple of the smaller stride.
void join(Terms& terms) {
  std::sort(terms.items, terms.items + terms.size, [](const Term& x, const Term& y) { return x.stride < y.stride; });
  int kept = 0;
  for (int i = 1; i < terms.size; ++i) {
    Term& low = terms.items[kept];
    const Term& high = terms.items[i];
    if (high.stride % low.stride == 0 && high.stride / low.stride <= low.count) {
      low.count += high.stride / low.stride * (high.count - 1);
    } else {
      terms.items[++kept] = high;
    }
  }
  if (terms.size > 0) terms.size = kept + 1;
}

/// Whether the terms [0, size) can sum to target; largest stride first. Gives up with "yes" when out of steps.
bool reaches(const Terms& terms, int size, Int target, int& steps) {
  if (target < 0) return false;
  if (target == 0) return true;
  if (size == 0) return false;
  if (--steps < 0) return true;
  Int rest = 0;  // the most that the smaller strides can give
  for (int i = 0; i < size - 1; ++i) rest += terms.items[i].stride * (terms.items[i].count - 1);
  const Term& term = terms.items[size - 1];
  Int u = std::min<Int>(term.count - 1, target / term.stride);
  for (; u >= 0 && target - u * term.stride <= rest; --u) {
    if (reaches(terms, size - 1, target - u * term.stride, steps)) return true;
  }
  return false;
}

}  // namespace

bool overlap(const View& x, const View& y) {
  if (x.device != y.device || is_empty(x) || is_empty(y)) return false;
  // offset_x + u == offset_y + v becomes, with v reflected (v = highest - w), one sum of positive terms.
  Terms terms;
  const Int lowest_x = add_offsets(x, terms);
  const int first_y = terms.size;
  const Int lowest_y = add_offsets(y, terms);
  Int highest_y = lowest_y;
  for (int i = first_y; i < terms.size; ++i) highest_y += terms.items[i].stride * (terms.items[i].count - 1);
  join(terms);
  int steps = 100000;
  return reaches(terms, terms.size, highest_y - lowest_x, steps);
}

bool overlaps_itself(const View& view) {
  if (is_empty(view)) return false;
  Terms terms;
  for (int axis = 0; axis < view.ndim(); ++axis) {
    if (view.shape[axis] > 1 && view.strides_bytes[axis] == 0) return true;
    terms.add(std::abs(view.strides_bytes[axis]), view.shape[axis]);
  }
  std::sort(terms.items, terms.items + terms.size, [](const Term& x, const Term& y) { return x.stride < y.stride; });
  Int extent = static_cast<Int>(size_of(view.dtype));  // bytes that the smaller strides span
  for (int i = 0; i < terms.size; ++i) {
    if (terms.items[i].stride < extent) return true;
    extent += terms.items[i].stride * (terms.items[i].count - 1);
  }
  return false;
}

}  // namespace maskmm::core
