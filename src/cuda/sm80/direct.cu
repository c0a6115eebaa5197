// The kernels for small problems.
#include "cuda/sm80/direct.cuh"

namespace maskmm::cuda::sm80 {
namespace {

template <class Element>
Kernel kernel(const char* const (&names)[3], TileKind kind) {
  switch (kind) {
    case TileKind::wide:
      return direct_kernel_named<Multiply16<Element, TileShape<64, 64, 2, 2, 0, 2>, Masks::choosing>>(names[0]);
    case TileKind::tall:
      return direct_kernel_named<Multiply16<Element, TileShape<64, 32, 4, 1, 0, 2>, Masks::choosing>>(names[1]);
    default:
      return direct_kernel_named<Multiply16<Element, TileShape<32, 32, 2, 1, 0, 2>, Masks::choosing>>(names[2]);
  }
}

}  // namespace

Kernel direct_kernel(Dtype dtype, TileKind kind) {
  if (dtype == Dtype::float16) {
    return kernel<__half>({"sm80 float16 direct 64x64", "sm80 float16 direct 64x32", "sm80 float16 direct 32x32"},
                          kind);
  }
  return kernel<__nv_bfloat16>(
      {"sm80 bfloat16 direct 64x64", "sm80 bfloat16 direct 64x32", "sm80 bfloat16 direct 32x32"}, kind);
}

}  // namespace maskmm::cuda::sm80
