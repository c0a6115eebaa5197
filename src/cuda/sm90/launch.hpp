// Enqueues a Hopper kernel.
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/choose.hpp"
#include "cuda/sm80/direct.hpp"

namespace maskmm::cuda::sm90 {

/// `multiply` has its schedule; `workspace` is laid out as `layout` says.
void launch(const Launch& launch, const WorkspaceLayout& layout, std::byte* workspace, const MultiplyParams& multiply,
            int device, cudaStream_t stream);

/// Enqueues a kernel for small problems; see small.cuh.
void launch_small(const Launch& launch, const sm80::DirectParams& direct, int device, cudaStream_t stream);

}  // namespace maskmm::cuda::sm90
