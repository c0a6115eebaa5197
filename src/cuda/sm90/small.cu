#include "cuda/sm90/small.cuh"

namespace maskmm::cuda::sm90 {
namespace {

template <class Element, int kRowBlocks, int kGroups>
Kernel kernel_of(const char* name) {
  using Work = Small<Element, kRowBlocks, kGroups>;
  Kernel kernel;
  kernel.function = reinterpret_cast<const void*>(&small_kernel<Element, kRowBlocks, kGroups>);
  kernel.name = name;
  kernel.rows = kRowBlocks * kBlock;
  kernel.columns = kBlock;
  kernel.threads = Work::kThreads;
  kernel.blocks_per_sm = 1;
  kernel.stage_bytes = Work::kSharedBytes;  // of all stages: as sm80's direct kernels
  kernel.cluster = 1;
  kernel.block = kBlock;
  return kernel;
}

}  // namespace

Kernel small_kernel(Dtype dtype, TileKind kind) {
  if (dtype == Dtype::float16) {
    return kind == TileKind::tall ? kernel_of<__half, 2, 2>("sm90 float16 small 128x64")
                                  : kernel_of<__half, 1, 4>("sm90 float16 small 64x64");
  }
  return kind == TileKind::tall ? kernel_of<__nv_bfloat16, 2, 2>("sm90 bfloat16 small 128x64")
                                : kernel_of<__nv_bfloat16, 1, 4>("sm90 bfloat16 small 64x64");
}

}  // namespace maskmm::cuda::sm90
