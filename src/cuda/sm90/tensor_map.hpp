// What the copy engine must know of an operand.
#pragma once

#include <cuda.h>

#include "cuda/params.hpp"

namespace maskmm::cuda::sm90 {

/// What one copy brings: `inner` elements, 32 or 64, (of the contiguous axis) by `outer`, `chunks` of them side by
/// side.
struct Box {
  int inner, outer, chunks;
  int row_bytes() const { return inner * 2; }
};

/// Axes: the contiguous one, the other one, chunks of the contiguous one (one where box.chunks is 1), and two of the
/// batch. What lies outside arrives as zeros.
CUtensorMap make_tensor_map(const Source& source, std::int64_t k, const BatchShape& batch, Box box);

}  // namespace maskmm::cuda::sm90
