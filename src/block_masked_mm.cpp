// The map of the whole: problem -> canonical -> choose, live and kernel of a back end.
#include "maskmm/block_masked_mm.hpp"

#include <algorithm>

#include "core/backend.hpp"
#include "core/canonical.hpp"
#include "core/execute.hpp"
#include "core/problem.hpp"

namespace maskmm {
namespace core {

void execute(const Problem& problem, const MutableView& result) {
  if (std::ranges::find(result.shape, 0) != result.shape.end()) return;
  const Canonical canonical = canonicalize(problem, result);
  if (problem.stream.device.type == DeviceType::cpu) {
    cpu::run(canonical);
  } else {
    cuda::run(canonical, problem.stream);
  }
}

Explanation explain(const Problem& problem) {
  // Nothing is written: a result of the right shape stands in for one that was not given.
  const View stand_in(problem.a.data, problem.result_dtype, problem.result_shape, problem.stream.device);
  MutableView result = problem.out.value_or(MutableView());
  if (!problem.out) static_cast<View&>(result) = stand_in;
  const Canonical canonical = canonicalize(problem, result);
  return problem.stream.device.type == DeviceType::cpu ? cpu::explain(canonical)
                                                       : cuda::explain(canonical, problem.stream);
}

}  // namespace core

array block_masked_mm(const View& a, const View& b, BlockSize block_size, const std::optional<View>& mask_out,
                      const std::optional<View>& mask_lhs, const std::optional<View>& mask_rhs, StreamOrDevice stream,
                      const std::optional<MutableView>& out, Precision precision) {
  const core::Problem problem =
      core::make_problem({a, b, block_size, mask_out, mask_lhs, mask_rhs, stream, out, precision});
  array result = out ? array::borrow(*out) : array(problem.result_shape, problem.result_dtype, problem.stream.device);
  core::execute(problem, result.mutable_view());
  return result;
}

Explanation explain(const View& a, const View& b, BlockSize block_size, const std::optional<View>& mask_out,
                    const std::optional<View>& mask_lhs, const std::optional<View>& mask_rhs, StreamOrDevice stream,
                    const std::optional<MutableView>& out, Precision precision) {
  return core::explain(core::make_problem({a, b, block_size, mask_out, mask_lhs, mask_rhs, stream, out, precision}));
}

}  // namespace maskmm
