// One function for each layout of a, so that the layouts compile side by side.
#pragma once

#include "cuda/kernel_table.hpp"

namespace maskmm::cuda::simt {

Kernel kernel_a_k_major(bool b_k_major, TileKind kind, Masks masks);
Kernel kernel_a_line_major(bool b_k_major, TileKind kind, Masks masks);

}  // namespace maskmm::cuda::simt
