// The kernels for results of few rows; see few_rows.cuh.
#pragma once

#include "cuda/params.hpp"

namespace maskmm::cuda::sm80 {

constexpr int kFewRowsColumns = 64;           // of a thread block
constexpr int kFewRows = 16, kMoreRows = 64;  // at most

struct FewRowsParams {
  std::int64_t m, n, k;  // elements
  std::int64_t k_blocks;
  int block_m, block_n, block_k;  // log2 of the block sizes
  Source a, b;
  Result out;
  BatchShape batch;
  std::int64_t batch_size;
  MaskParams mask_out, mask_lhs, mask_rhs;  // as the caller gave them, all bool; mask_rhs in rows along k
  float* partial;                           // as in MultiplyParams
  Schedule schedule;
};

struct FewRowsKernel {
  const void* function;  // takes a FewRowsParams
  const char* name;
  int rows, threads, shared_bytes;
};

/// For float16 or bfloat16 and up to kFewRows or kMoreRows rows.
FewRowsKernel few_rows_kernel(Dtype dtype, bool b_k_major, std::int64_t rows);

}  // namespace maskmm::cuda::sm80
