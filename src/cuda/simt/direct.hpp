// The kernel for small float32 problems; see sm80/direct.cuh.
#pragma once

#include "cuda/kernel_table.hpp"

namespace maskmm::cuda::simt {

/// 32 x 32, k taken in turns by four groups of warps. Takes an sm80::DirectParams.
Kernel direct_kernel();

}  // namespace maskmm::cuda::simt
