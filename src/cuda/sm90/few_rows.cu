#include "cuda/sm90/few_rows.cuh"

namespace maskmm::cuda::sm90 {
namespace {

template <class Element, int kGroups, int kStages>
Kernel kernel_of(const char* name) {
  using Work = FewRows<Element, kGroups, kStages>;
  Kernel kernel;
  kernel.function = reinterpret_cast<const void*>(&few_rows_kernel_of<Element, kGroups, kStages>);
  kernel.name = name;
  kernel.rows = kernel.columns = kernel.block = kBlock;
  kernel.threads = Work::kThreads;
  kernel.blocks_per_sm = kGroups > 2 ? 1 : 2;
  kernel.stage_bytes = Work::kSharedBytes;  // of all stages: as sm80's direct kernels
  kernel.cluster = 1;
  return kernel;
}

}  // namespace

Kernel few_rows_kernel(Dtype dtype) {
  return dtype == Dtype::float16 ? kernel_of<__half, 2, 6>("sm90 float16 64 rows")
                                 : kernel_of<__nv_bfloat16, 2, 6>("sm90 bfloat16 64 rows");
}

}  // namespace maskmm::cuda::sm90
