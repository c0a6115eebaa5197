// How a launch starts: after all that is in front of it on the stream, or early.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

namespace maskmm::cuda {

/// early: thread blocks may start as soon as those of the kernel in front leave room, which must be one of this call's
/// that waits for those before it. The kernel itself waits for the one in front (early.cuh), which only code for Hopper
/// does.
enum class Start { in_order, early };

inline cudaLaunchAttribute starts_early() {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  return attribute;
}

inline cudaError_t start(const void* function, unsigned blocks, int threads, std::size_t shared_bytes, void** arguments,
                         cudaStream_t stream, Start how) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  cudaLaunchAttribute attribute = starts_early();
  config.attrs = &attribute;
  config.numAttrs = how == Start::early ? 1 : 0;
  return cudaLaunchKernelExC(&config, function, arguments);
}

}  // namespace maskmm::cuda
