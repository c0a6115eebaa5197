// The plan: a small launch that, once the masks are bits, gives the work to one kernel and puts its tiles in order.
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/params.hpp"
#include "cuda/start.hpp"

namespace maskmm::cuda {

constexpr int kMostTilesToPlan = 1 << 18;

/// Fills `counts` and `tiles` of every candidate. `cost` of all and `finished` are 0 before.
cudaError_t launch_plan(const PlanParams& params, int sms, cudaStream_t stream, Start how);

}  // namespace maskmm::cuda
