// The float64 kernels.
#include "cuda/sm80/multiply_64.cuh"

namespace maskmm::cuda {

Kernel float64_kernel(TileKind kind, Masks masks) {
  using sm80::Multiply64;
  if (masks == Masks::scaling) {
    return kernel_of<Multiply64<TileShape<128, 64, 4, 2, 4, 1>, Masks::scaling>>("sm80 float64 128x64 scaling");
  }
  switch (kind) {
    case TileKind::wide:
      return kernel_of<Multiply64<TileShape<64, 256, 2, 4, 4, 1>, Masks::choosing>>("sm80 float64 64x256");
    case TileKind::tall:
      return kernel_of<Multiply64<TileShape<256, 64, 8, 1, 4, 1>, Masks::choosing>>("sm80 float64 256x64");
    case TileKind::small:
      return kernel_of<Multiply64<TileShape<64, 64, 2, 2, 4, 2>, Masks::choosing>>("sm80 float64 64x64");
    default:
      return kernel_of<Multiply64<TileShape<128, 128, 4, 2, 4, 1>, Masks::choosing>>("sm80 float64 128x128");
  }
}

}  // namespace maskmm::cuda
