// The pre-pass of mask_out: which columns make a tile.
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/sm90/config.hpp"

namespace maskmm::cuda::sm90 {

/// Lets a launch start before the kernel that was launched last on the stream is finished, which must be one that waits
/// for those before it.
inline cudaLaunchAttribute starts_early() {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  return attribute;
}

/// Fills the lists; their counts are zero before. Follows the mask pass.
cudaError_t launch_gather(const MultiplyParams& params, const Gathered& to, cudaStream_t stream);

}  // namespace maskmm::cuda::sm90
