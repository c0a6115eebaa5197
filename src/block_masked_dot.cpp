#include "maskmm/block_masked_dot.hpp"

#include "core/execute.hpp"
#include "core/problem.hpp"

namespace maskmm {

array block_masked_dot(const View& x, const View& a, const View& b, BlockSize block_size,
                       const std::optional<View>& mask_out, const std::optional<View>& mask_lhs,
                       const std::optional<View>& mask_rhs, StreamOrDevice stream,
                       const std::optional<MutableView>& out, Precision precision) {
  return core::execute(
      core::make_problem({a, b, block_size, mask_out, mask_lhs, mask_rhs, stream, out, precision, &x}));
}

}  // namespace maskmm
