// The kernels for small problems; see direct.cuh.
#pragma once

#include "cuda/kernel_table.hpp"

namespace maskmm::cuda::sm80 {

constexpr int kMostDirectBlocks = 1024;  // of k

struct DirectParams {
  MultiplyParams multiply;
  MaskParams mask_out, mask_lhs, mask_rhs;  // as the caller gave them, all bool; mask_rhs in rows along k
};

/// wide: 64 x 64; small: 32 x 32, k taken in turns by four groups of warps. Takes a DirectParams.
Kernel direct_kernel(Dtype dtype, TileKind kind);

}  // namespace maskmm::cuda::sm80
