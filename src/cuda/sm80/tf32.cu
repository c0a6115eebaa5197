#include "cuda/sm80/multiply_tf32.cuh"
#include "cuda/sm80/tf32.hpp"

namespace maskmm::cuda {

Kernel tf32_kernel(TileKind kind, Masks masks) {
  using sm80::MultiplyTf32;
  if (masks == Masks::scaling) {
    return kernel_of<MultiplyTf32<TileShape<128, 128, 2, 4, 4, 1>, Masks::scaling>>("sm80 tf32 128x128 scaling");
  }
  switch (kind) {
    case TileKind::wide:
      return kernel_of<MultiplyTf32<TileShape<128, 256, 2, 4, 4, 1>, Masks::choosing>>("sm80 tf32 128x256");
    case TileKind::tall:
      return kernel_of<MultiplyTf32<TileShape<256, 128, 4, 2, 4, 1>, Masks::choosing>>("sm80 tf32 256x128");
    case TileKind::square:
      return kernel_of<MultiplyTf32<TileShape<128, 128, 2, 4, 4, 1>, Masks::choosing>>("sm80 tf32 128x128");
    default:
      return kernel_of<MultiplyTf32<TileShape<64, 64, 2, 2, 4, 2>, Masks::choosing>>("sm80 tf32 64x64");
  }
}

}  // namespace maskmm::cuda
