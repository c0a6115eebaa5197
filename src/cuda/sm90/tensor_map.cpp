#include "cuda/sm90/tensor_map.hpp"

#include <cuda_runtime_api.h>

#include <string>

#include "cuda/check.hpp"
#include "maskmm/error.hpp"

namespace maskmm::cuda::sm90 {
namespace {

using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*, const cuuint64_t*,
                            const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle,
                            CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

/// The driver's function, without linking against the driver.
Encode encode_function() {
  static const Encode encode = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result{};
    check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result),
          "cudaGetDriverEntryPointByVersion");
    if (found == nullptr) throw cuda_error("CUDA: the driver has no cuTensorMapEncodeTiled");
    return reinterpret_cast<Encode>(found);
  }();
  return encode;
}

}  // namespace

CUtensorMap make_tensor_map(const Source& source, std::int64_t k, const BatchShape& batch, Box box) {
  constexpr int kRank = 5;
  constexpr std::int64_t kElementBytes = 2;
  const std::int64_t inner = source.k_major ? k : source.lines, outer = source.k_major ? source.lines : k;
  const std::int64_t outer_stride = outer == 1 ? 16 : source.k_major ? source.line_stride : source.k_stride;
  cuuint64_t sizes[kRank], strides[kRank - 1];
  sizes[0] = static_cast<cuuint64_t>(box.chunks > 1 ? box.inner : inner);
  sizes[1] = static_cast<cuuint64_t>(outer);
  sizes[2] = static_cast<cuuint64_t>(box.chunks > 1 ? inner / box.inner : 1);
  strides[0] = static_cast<cuuint64_t>(outer_stride);
  strides[1] = static_cast<cuuint64_t>(box.inner * kElementBytes);
  for (int axis = 0; axis < 2; ++axis) {
    const int which = batch.rank - 1 - axis;
    const std::int64_t stride = which >= 0 ? source.batch.bytes[which] : 0;
    sizes[3 + axis] = stride != 0 ? static_cast<cuuint64_t>(batch.size[which]) : 1;
    strides[2 + axis] = stride != 0 ? static_cast<cuuint64_t>(stride) : 16;
  }
  const cuuint32_t boxes[kRank] = {static_cast<cuuint32_t>(box.inner), static_cast<cuuint32_t>(box.outer),
                                   static_cast<cuuint32_t>(box.chunks), 1, 1};
  const cuuint32_t ones[kRank] = {1, 1, 1, 1, 1};
  CUtensorMap map;
  const CUresult status = encode_function()(
      &map, source.dtype == Dtype::float16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, kRank,
      const_cast<std::byte*>(source.data), sizes, strides, boxes, ones, CU_TENSOR_MAP_INTERLEAVE_NONE,
      box.row_bytes() == 64 ? CU_TENSOR_MAP_SWIZZLE_64B : CU_TENSOR_MAP_SWIZZLE_128B,
      CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS) {
    throw cuda_error("CUDA: cuTensorMapEncodeTiled: error " + std::to_string(static_cast<int>(status)));
  }
  return map;
}

}  // namespace maskmm::cuda::sm90
