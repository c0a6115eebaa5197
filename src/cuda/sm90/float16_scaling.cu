#include "cuda/sm90/instances.cuh"

namespace maskmm::cuda::sm90 {

Kernel float16_scaling_kernel(int block, Skip skip, Layout a, Layout b) {
  using Element = __half;
  return a == Layout::k_major ? scaling_kernel<Element, Layout::k_major>(block, skip, b)
                              : scaling_kernel<Element, Layout::line_major>(block, skip, b);
}

}  // namespace maskmm::cuda::sm90
