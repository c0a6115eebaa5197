// The kernels for results of few rows.
#include "cuda/sm80/few_rows.cuh"

namespace maskmm::cuda::sm80 {
namespace {

template <class Element>
FewRowsKernel kernel(const char* name, bool b_k_major) {
  return b_k_major ? few_rows_kernel_of<Element, Layout::k_major>(name)
                   : few_rows_kernel_of<Element, Layout::line_major>(name);
}

}  // namespace

FewRowsKernel few_rows_kernel(Dtype dtype, bool b_k_major) {
  return dtype == Dtype::float16 ? kernel<__half>("sm80 float16 16 rows", b_k_major)
                                 : kernel<__nv_bfloat16>("sm80 bfloat16 16 rows", b_k_major);
}

}  // namespace maskmm::cuda::sm80
