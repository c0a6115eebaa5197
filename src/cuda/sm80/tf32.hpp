// The float32 kernels for "tf32".
#pragma once

#include "cuda/kernel_table.hpp"

namespace maskmm::cuda {

Kernel tf32_kernel(TileKind kind, Masks masks);

}  // namespace maskmm::cuda
