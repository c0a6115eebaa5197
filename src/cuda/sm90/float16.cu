// The float16 kernels.
#include "cuda/sm90/instances.cuh"

namespace maskmm::cuda::sm90 {

Kernel float16_kernel(Shape shape, Layout a, Layout b) {
  return a == Layout::k_major ? kernel<__half, Layout::k_major>(shape, b)
                              : kernel<__half, Layout::line_major>(shape, b);
}

}  // namespace maskmm::cuda::sm90
