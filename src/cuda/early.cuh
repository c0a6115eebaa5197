// Launches that start before those in front of them are finished: on Hopper, where both sides say so.
#pragma once

namespace maskmm::cuda::ptx {

/// Lets the next launch's blocks take what this one leaves free, if it was launched that way (starts_early).
__device__ inline void let_next_launch_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// Returns when the launches before are finished and what they wrote can be read.
__device__ inline void wait_for_launches_before() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

}  // namespace maskmm::cuda::ptx
