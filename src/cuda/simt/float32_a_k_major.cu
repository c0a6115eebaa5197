// The float32 kernels for an a that lies k_major in shared memory.
#include "cuda/simt/float32.hpp"
#include "cuda/simt/multiply_32.cuh"

namespace maskmm::cuda::simt {
namespace {

template <Layout kLayoutB>
Kernel kernel(Masks masks) {
  using Shape = TileShape<128, 128, 4, 2, 4, 1>;
  if (masks == Masks::scaling) {
    return kernel_of<Multiply32<Layout::k_major, kLayoutB, Shape, Masks::scaling>>("simt float32 128x128 scaling");
  }
  return kernel_of<Multiply32<Layout::k_major, kLayoutB, Shape, Masks::choosing>>("simt float32 128x128");
}

}  // namespace

Kernel kernel_a_k_major(bool b_k_major, Masks masks) {
  return b_k_major ? kernel<Layout::k_major>(masks) : kernel<Layout::line_major>(masks);
}

}  // namespace maskmm::cuda::simt
