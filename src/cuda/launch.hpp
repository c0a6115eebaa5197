// What the runtime is asked once and told once for each device: its limits, and the shared memory of each kernel.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "cuda/choose.hpp"
#include "cuda/start.hpp"

namespace maskmm::cuda {

/// The device is the current one. All but the variable that forces a family is kept for the life of the process.
DeviceLimits limits_of(int device);

/// Lets a kernel use this much dynamic shared memory on the current device.
void allow_shared_bytes(const void* function, int shared_bytes, int device);

/// Enqueues a kernel that takes one struct, on the current device. Throws what check() throws.
void launch_kernel(const void* function, std::int64_t blocks, int threads, int shared_bytes, void* params, int device,
                   cudaStream_t stream, const char* name, Start how = Start::in_order);

}  // namespace maskmm::cuda
