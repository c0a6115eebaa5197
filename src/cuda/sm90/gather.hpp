// The pre-pass of mask_out: which columns make a tile.
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/sm90/config.hpp"

namespace maskmm::cuda::sm90 {

/// Fills the lists; their counts are zero before. Follows the mask pass.
cudaError_t launch_gather(const MultiplyParams& params, const Gathered& to, cudaStream_t stream);

}  // namespace maskmm::cuda::sm90
