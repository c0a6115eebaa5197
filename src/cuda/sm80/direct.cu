// The kernels for small problems.
#include "cuda/sm80/direct.cuh"
#include "cuda/sm80/multiply_16.cuh"

namespace maskmm::cuda::sm80 {
namespace {

template <class Element>
Kernel kernel(const char* const (&names)[2], TileKind kind) {
  if (kind == TileKind::wide) {
    return direct_kernel_named<Multiply16<Element, TileShape<64, 64, 2, 2, 0, 2>, Masks::choosing>, 1>(names[0]);
  }
  return direct_kernel_named<Multiply16<Element, TileShape<32, 32, 2, 1, 0, 2>, Masks::choosing>, 4>(names[1]);
}

}  // namespace

Kernel direct_kernel(Dtype dtype, TileKind kind) {
  if (dtype == Dtype::float16) return kernel<__half>({"sm80 float16 direct 64x64", "sm80 float16 direct 32x32"}, kind);
  return kernel<__nv_bfloat16>({"sm80 bfloat16 direct 64x64", "sm80 bfloat16 direct 32x32"}, kind);
}

}  // namespace maskmm::cuda::sm80
