// The pre-pass and the reduction of split k: small launches around the main one.
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/params.hpp"
#include "cuda/start.hpp"

namespace maskmm::cuda {

/// Words that Hopper's kernels count in.
constexpr int kCounters = 48;

/// Words that the mask pass makes zeros for those that follow it; at most as many as a block has threads.
struct Counters {
  unsigned* words = nullptr;
  unsigned count = 0;
};

/// Contents of the masks that are present into bit rows and scales of the accumulating type.
cudaError_t launch_live(const LiveParams& params, const Counters& counters, Dtype accumulate, int sms,
                        cudaStream_t stream);

/// Sums the parts of a split k in order, applies mask_out and writes the result. `dropped`: a mask_out of bools whose
/// dropped parts were not written; it may be absent.
cudaError_t launch_reduce(const ReduceParams& params, const MaskParams& dropped, Dtype accumulate, int sms,
                          cudaStream_t stream, Start how);

/// Sums the squares of each block of a block_masked_dot, applies mask_out and writes the result.
cudaError_t launch_reduce_squares(const ReduceSquaresParams& params, Dtype accumulate, int sms, cudaStream_t stream,
                                  Start how);

/// Adds the number of live triples to *count.
cudaError_t launch_count(const MultiplyParams& params, unsigned long long* count, int sms, cudaStream_t stream);

}  // namespace maskmm::cuda
