// The Hopper kernel: float16 and bfloat16 whose strides the copy engine accepts, blocks that are multiples of 32.
//
// Roles: two or four warps walk the live k blocks of the block's tiles and have the copy engine fill a ring of stages;
// two or three warpgroups multiply out of it (wgmma), each 64 x 256 (or 192 x 64) of the tile, and store from registers
// while the ring fills for the next tile. Two blocks side by side in a cluster share rows of a: each brings half of it
// to both. Memory: Ring in stage.cuh. Registers move from the loading warps to the multiplying ones. Design:
// docs/design/sm90.md.
#pragma once

#include "cuda/early.cuh"
#include "cuda/kernel_table.hpp"
#include "cuda/sm90/load.cuh"
#include "cuda/sm90/multiply.cuh"
#include "cuda/sm90/multiply_32.cuh"
#include "cuda/sm90/multiply_pairs_32.cuh"
#include "cuda/sm90/multiply_scaled.cuh"
#include "cuda/sm90/multiply_scaled_32.cuh"
#include "cuda/sm90/zero.cuh"

namespace maskmm::cuda::sm90 {

template <class Config>
using MultiplierOf = std::conditional_t<
    Config::kMasks == Masks::scaling,
    std::conditional_t<Config::kBlock == 32, ScaledMultiplier32<Config>, ScaledMultiplier<Config>>,
    std::conditional_t<kPairs32<Config>, PairMultiplier32<Config>,
                       std::conditional_t<Config::kBlock == 32, Multiplier32<Config>, Multiplier<Config>>>>;

/// Behind the ring in shared memory.
struct SharedState {
  RowOrder order;
  Mailbox mailbox;
};

template <class Config>
__global__ void __launch_bounds__(Config::kThreads, 1) hopper_kernel(const __grid_constant__ HopperParams params) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) std::byte shared[];
  const int rank = Config::kCluster > 1 ? static_cast<int>(uniform(ptx::rank_in_cluster())) : 0;
  // Held in a register where stages bring little, or each works it out anew.
  const std::uint32_t start = ptx::shared_address(shared);
  const Ring<Config> ring{Config::kSkip == Skip::pairs ? uniform(ptx::kept(start)) : start};
  SharedState& state = *reinterpret_cast<SharedState*>(shared + Ring<Config>::kBytes);
  if (threadIdx.x == 0) {
    ring.init();
    state.mailbox.init<Config>();
    ptx::publish_barriers();
  }
  cuda::ptx::wait_for_launches_before();
  const bool scaled = params.multiply.scaled != nullptr && *params.multiply.scaled != 0;
  if (scaled != (Config::kMasks == Masks::scaling)) return;
  const Order<Config> order{params, state.order};
  order.prepare();
  __syncthreads();
  if constexpr (Config::kCluster > 1) ptx::sync_cluster();

  const unsigned group = uniform(threadIdx.x / 128);
  if (group == 0) {
    ptx::give_registers<Config::kLoadRegisters>();
    const int warp = static_cast<int>(uniform(threadIdx.x / 32));
    if (warp < Config::kLoaders) {
      Loader<Config>{params, ring, order, {params.ticket_counter, state.mailbox, rank, warp}}.run();
    } else if constexpr (Config::kGathers) {
      constexpr int kIdle = 4 - Config::kLoaders;
      write_dead_blocks(params, static_cast<int>(blockIdx.x) * kIdle + warp - Config::kLoaders,
                        static_cast<int>(gridDim.x) * kIdle);
    }
  } else {
    ptx::take_registers<Config::kMultiplyRegisters>();
    MultiplierOf<Config>{params, ring, static_cast<int>(group) - 1}.run();
  }
  if constexpr (Config::kCluster > 1) {  // the other block still arrives at barriers in this one's memory
    __syncwarp();
    ptx::sync_cluster();
  }
#else
  __trap();  // never chosen: see DeviceLimits::hopper_code
#endif
}

template <class Config>
Kernel kernel_of(const char* name) {
  Kernel kernel;
  kernel.function = reinterpret_cast<const void*>(&hopper_kernel<Config>);
  kernel.name = name;
  kernel.rows = Config::kRows;
  kernel.columns = Config::kColumns;
  kernel.threads = Config::kThreads;
  kernel.blocks_per_sm = 1;
  static_assert((Ring<Config>::kBytes + sizeof(SharedState)) % kStages == 0);
  kernel.stage_bytes = (Ring<Config>::kBytes + sizeof(SharedState)) / kStages;
  kernel.cluster = Config::kCluster;
  kernel.block = Config::kBlock;
  kernel.gathers = Config::kGathers;
  kernel.skips_pairs = Config::kSkip == Skip::pairs;
  return kernel;
}

}  // namespace maskmm::cuda::sm90
