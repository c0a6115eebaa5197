// The Hopper kernels that are built: two element types, four layouts, eight shapes.
#pragma once

#include "cuda/kernel_table.hpp"
#include "cuda/sm90/config.hpp"

namespace maskmm::cuda::sm90 {

/// wide_pair: 192 x 512 for a cluster, only mask_lhs skips. single: 128 x 256, only mask_lhs skips. any_masks: 192 x
/// 256, all masks skip. gathered: 192 x 256, the columns that mask_out keeps; mask_lhs skips. blocks_32: 192 x 192,
/// only mask_lhs skips. any_masks_32: the same, all masks skip. dot_*: the same for a block_masked_dot.
enum class Shape { wide_pair, single, any_masks, gathered, blocks_32, any_masks_32, dot_wide_pair, dot_any_masks };

Kernel float16_kernel(Shape shape, Layout a, Layout b);
Kernel bfloat16_kernel(Shape shape, Layout a, Layout b);

/// For masks that scale. Skip::rows: 128 x 512 for a cluster, only mask_lhs. Skip::pairs: 128 x 256, all masks. Blocks
/// of 32: 192 x 192.
Kernel float16_scaling_kernel(int block, Skip skip, Layout a, Layout b);
Kernel bfloat16_scaling_kernel(int block, Skip skip, Layout a, Layout b);

}  // namespace maskmm::cuda::sm90
