// A checked Problem, carried out. For front ends that allocate the result themselves.
#pragma once

#include "core/problem.hpp"
#include "core/scratch_source.hpp"

namespace maskmm::core {

/// Writes the product, or its dot, to `result`, which has problem.result_shape and problem.result_dtype and overlaps no
/// input. A call on a GPU has its scratch memory from `scratch`; null: from the library's pool.
void execute(const Problem& problem, const MutableView& result, ScratchSource* scratch = nullptr);
/// The same into problem.out, or into a new array.
array execute(const Problem& problem);

/// What execute would do.
Explanation explain(const Problem& problem);

}  // namespace maskmm::core
