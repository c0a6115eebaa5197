// The plan: a small launch that, once the masks are bits, gives the work to one kernel and puts its tiles in order.
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/params.hpp"

namespace maskmm::cuda {

/// Fills `counts` and `tiles` of every candidate. `cost` of all and `finished` are 0 before.
cudaError_t launch_plan(const PlanParams& params, int sms, cudaStream_t stream);

}  // namespace maskmm::cuda
