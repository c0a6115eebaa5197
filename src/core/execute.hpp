// A checked Problem, carried out. For front ends that allocate the result themselves.
#pragma once

#include "core/problem.hpp"

namespace maskmm::core {

/// Writes the product, or its dot, to `result`, which has problem.result_shape and problem.result_dtype and overlaps no
/// input.
void execute(const Problem& problem, const MutableView& result);
/// The same into problem.out, or into a new array.
array execute(const Problem& problem);

/// What execute would do.
Explanation explain(const Problem& problem);

}  // namespace maskmm::core
