// The kernels for results of few rows.
#include "cuda/sm80/few_rows.cuh"

namespace maskmm::cuda::sm80 {
namespace {

template <class Element, int kRows>
FewRowsKernel kernel(const char* name, bool b_k_major) {
  return b_k_major ? few_rows_kernel_of<Element, Layout::k_major, kRows>(name)
                   : few_rows_kernel_of<Element, Layout::line_major, kRows>(name);
}

}  // namespace

FewRowsKernel few_rows_kernel(Dtype dtype, bool b_k_major, std::int64_t rows) {
  if (rows <= kFewRows) {
    return dtype == Dtype::float16 ? kernel<__half, kFewRows>("sm80 float16 16 rows", b_k_major)
                                   : kernel<__nv_bfloat16, kFewRows>("sm80 bfloat16 16 rows", b_k_major);
  }
  return dtype == Dtype::float16 ? kernel<__half, kMoreRows>("sm80 float16 64 rows", b_k_major)
                                 : kernel<__nv_bfloat16, kMoreRows>("sm80 bfloat16 64 rows", b_k_major);
}

}  // namespace maskmm::cuda::sm80
