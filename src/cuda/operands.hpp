// operands: how kernels see the arrays of a call.
#pragma once

#include "core/canonical.hpp"
#include "cuda/params.hpp"

namespace maskmm::cuda {

/// An operand by lines, its rows or its columns, of k elements each.
Source make_source(const core::Operand& operand, bool lines_are_rows, std::int64_t lines, std::int64_t k,
                   Dtype element);
Result make_result(const core::Canonical& canonical);
/// x of a dot; empty where there is none.
DotX make_x(const core::Canonical& canonical, Dtype element);

}  // namespace maskmm::cuda
