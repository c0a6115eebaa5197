#include "cuda/simt/float32.hpp"

namespace maskmm::cuda {

Kernel float32_kernel(bool a_k_major, bool b_k_major, TileKind kind, Masks masks) {
  return a_k_major ? simt::kernel_a_k_major(b_k_major, kind, masks) : simt::kernel_a_line_major(b_k_major, kind, masks);
}

}  // namespace maskmm::cuda
