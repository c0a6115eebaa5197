// Type promotion.
#pragma once

#include "maskmm/dtype.hpp"

namespace maskmm::core {

/// The type of the result. At least one of the two is floating, none is complex.
constexpr Dtype promote(Dtype a, Dtype b) {
  const bool a_floats = a >= Dtype::float16, b_floats = b >= Dtype::float16;
  if (!a_floats) return b;
  if (!b_floats || a == b) return a;
  // Two different floating types: float16 and bfloat16 meet in float32, anything else in the wider one.
  const Dtype wider = a > b ? a : b;
  return wider == Dtype::bfloat16 ? Dtype::float32 : wider;
}

/// The type that sums run in.
constexpr Dtype accumulate_type(Dtype result) { return result == Dtype::float64 ? Dtype::float64 : Dtype::float32; }

static_assert(promote(Dtype::float16, Dtype::bfloat16) == Dtype::float32);
static_assert(promote(Dtype::bfloat16, Dtype::float32) == Dtype::float32);
static_assert(promote(Dtype::float16, Dtype::float64) == Dtype::float64);
static_assert(promote(Dtype::int64, Dtype::float16) == Dtype::float16);

}  // namespace maskmm::core
