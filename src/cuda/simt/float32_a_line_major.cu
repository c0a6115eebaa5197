// The float32 kernels for an a that lies line_major in shared memory.
#include "cuda/simt/float32.hpp"
#include "cuda/simt/multiply_32.cuh"

namespace maskmm::cuda::simt {
namespace {

template <Layout kLayoutB>
Kernel kernel(TileKind kind, Masks masks) {
  using Square = TileShape<128, 128, 2, 4, 4, 1>;
  if (masks == Masks::scaling) {
    return kernel_of<Multiply32<Layout::line_major, kLayoutB, Square, Masks::scaling>>("simt float32 128x128 scaling");
  }
  switch (kind) {
    case TileKind::wide:
      return kernel_of<Multiply32<Layout::line_major, kLayoutB, TileShape<64, 256, 1, 8, 4, 1>, Masks::choosing>>(
          "simt float32 64x256");
    case TileKind::tall:
      return kernel_of<Multiply32<Layout::line_major, kLayoutB, TileShape<256, 64, 4, 2, 4, 1>, Masks::choosing>>(
          "simt float32 256x64");
    case TileKind::small:
      return kernel_of<Multiply32<Layout::line_major, kLayoutB, TileShape<64, 64, 2, 2, 2, 2>, Masks::choosing>>(
          "simt float32 64x64");
    default:
      return kernel_of<Multiply32<Layout::line_major, kLayoutB, Square, Masks::choosing>>("simt float32 128x128");
  }
}

}  // namespace

Kernel kernel_a_line_major(bool b_k_major, TileKind kind, Masks masks) {
  return b_k_major ? kernel<Layout::k_major>(kind, masks) : kernel<Layout::line_major>(kind, masks);
}

}  // namespace maskmm::cuda::simt
