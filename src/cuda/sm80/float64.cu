// The float64 kernels.
#include "cuda/sm80/multiply_64.cuh"

namespace maskmm::cuda {

Kernel float64_kernel(TileKind kind, Masks masks) {
  using sm80::Multiply64;
  if (masks == Masks::scaling) {
    return kernel_of<Multiply64<TileShape<128, 64, 4, 2, 4, 1>, Masks::scaling>>("sm80 float64 128x64 scaling");
  }
  if (kind == TileKind::small) {
    return kernel_of<Multiply64<TileShape<64, 64, 2, 2, 4, 2>, Masks::choosing>>("sm80 float64 64x64");
  }
  return kernel_of<Multiply64<TileShape<128, 128, 4, 2, 4, 1>, Masks::choosing>>("sm80 float64 128x128");
}

}  // namespace maskmm::cuda
