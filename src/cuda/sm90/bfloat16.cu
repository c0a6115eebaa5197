// The bfloat16 kernels.
#include "cuda/sm90/instances.cuh"

namespace maskmm::cuda::sm90 {

Kernel bfloat16_kernel(Shape shape, Layout a, Layout b) {
  return a == Layout::k_major ? kernel<__nv_bfloat16, Layout::k_major>(shape, b)
                              : kernel<__nv_bfloat16, Layout::line_major>(shape, b);
}

}  // namespace maskmm::cuda::sm90
