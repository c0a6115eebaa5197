// The bfloat16 kernels.
#include "cuda/sm80/multiply_16.cuh"

namespace maskmm::cuda {

Kernel bfloat16_kernel(TileKind kind, Masks masks) {
  using sm80::Multiply16;
  if (masks == Masks::scaling) {
    return kernel_of<Multiply16<__nv_bfloat16, TileShape<128, 128, 2, 4, 4, 1>, Masks::scaling>>(
        "sm80 bfloat16 128x128 scaling");
  }
  switch (kind) {
    case TileKind::wide:
      return kernel_of<Multiply16<__nv_bfloat16, TileShape<128, 256, 2, 4, 4, 1>, Masks::choosing>>(
          "sm80 bfloat16 128x256");
    case TileKind::tall:
      return kernel_of<Multiply16<__nv_bfloat16, TileShape<256, 128, 4, 2, 4, 1>, Masks::choosing>>(
          "sm80 bfloat16 256x128");
    case TileKind::square:
      return kernel_of<Multiply16<__nv_bfloat16, TileShape<128, 128, 2, 4, 4, 1>, Masks::choosing>>(
          "sm80 bfloat16 128x128");
    default:
      return kernel_of<Multiply16<__nv_bfloat16, TileShape<64, 64, 2, 2, 4, 2>, Masks::choosing>>(
          "sm80 bfloat16 64x64");
  }
}

}  // namespace maskmm::cuda
