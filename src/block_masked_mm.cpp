// The map of the whole: problem -> canonical -> choose, live and kernel of a back end.
#include "maskmm/block_masked_mm.hpp"

#include <algorithm>

#include "core/backend.hpp"
#include "core/canonical.hpp"
#include "core/execute.hpp"
#include "core/problem.hpp"

namespace maskmm {
namespace core {

namespace {

bool is_empty(const Dims& shape) { return std::ranges::find(shape, 0) != shape.end(); }

}  // namespace

void execute(const Problem& problem, const MutableView& result, ScratchSource* scratch) {
  if (is_empty(result.shape)) return;
  const Canonical canonical = canonicalize(problem, result);
  if (problem.stream.device.type == DeviceType::cpu) {
    cpu::run(canonical);
  } else {
    cuda::run(canonical, problem.stream, scratch);
  }
}

array execute(const Problem& problem) {
  array result = problem.out ? array::borrow(*problem.out)
                             : array(problem.result_shape, problem.result_dtype, problem.stream.device);
  execute(problem, result.mutable_view());
  return result;
}

Explanation explain(const Problem& problem) {
  if (is_empty(problem.result_shape)) {
    return {.device = problem.stream.device, .kernel = "none", .isa = "", .reason = "the result is empty"};
  }
  // Nothing is written: where no result was given, a contiguous one without memory stands in.
  const MutableView stand_in(nullptr, problem.result_dtype, problem.result_shape, problem.stream.device);
  const Canonical canonical = canonicalize(problem, problem.out.value_or(stand_in));
  return problem.stream.device.type == DeviceType::cpu ? cpu::explain(canonical)
                                                       : cuda::explain(canonical, problem.stream);
}

}  // namespace core

array block_masked_mm(const View& a, const View& b, BlockSize block_size, const std::optional<View>& mask_out,
                      const std::optional<View>& mask_lhs, const std::optional<View>& mask_rhs, StreamOrDevice stream,
                      const std::optional<MutableView>& out, Precision precision) {
  return core::execute(core::make_problem({a, b, block_size, mask_out, mask_lhs, mask_rhs, stream, out, precision}));
}

Explanation explain(const View& a, const View& b, BlockSize block_size, const std::optional<View>& mask_out,
                    const std::optional<View>& mask_lhs, const std::optional<View>& mask_rhs, StreamOrDevice stream,
                    const std::optional<MutableView>& out, Precision precision) {
  return core::explain(core::make_problem({a, b, block_size, mask_out, mask_lhs, mask_rhs, stream, out, precision}));
}

}  // namespace maskmm
