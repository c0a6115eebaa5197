#include "cuda/sm90/wave.cuh"

namespace maskmm::cuda::sm90 {

Kernel float16_wave_kernel(WaveKind kind, Skip skip, Layout a, Layout b) {
  return wave_kernel_of<__half>(kind, skip, a, b);
}

}  // namespace maskmm::cuda::sm90
