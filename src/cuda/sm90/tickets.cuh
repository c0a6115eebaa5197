// Who takes which tile: each cluster of thread blocks draws the number of its next tile from a counter, so that one
// with light tiles takes more of them. One loading warp draws and tells the others.
#pragma once

#include "cuda/sm90/config.hpp"
#include "cuda/sm90/ptx.cuh"

namespace maskmm::cuda::sm90 {

/// In shared memory. The warp that draws is at most two rings of stages ahead of those that it tells, and every tile
/// has a stage, so that sixteen numbers do.
struct Mailbox {
  static constexpr int kSlots = 16;
  std::uint64_t arrived[kSlots];
  unsigned numbers[kSlots];

  __device__ unsigned read(int slot) const { return *static_cast<const volatile unsigned*>(&numbers[slot]); }
  __device__ void write(int slot, unsigned number) { *static_cast<volatile unsigned*>(&numbers[slot]) = number; }

  template <class Config>
  __device__ void init() {
    for (int i = 0; i < kSlots; ++i) {
      ptx::barrier_init(ptx::shared_address(&arrived[i]), 1);
      if (Config::kCluster > 1) expect(i);
    }
  }
  /// In a cluster a number comes as bytes, which one warp of each block announces.
  __device__ void expect(int slot) {
    ptx::barrier_arrive_expecting(ptx::shared_address(&arrived[slot]), sizeof(unsigned));
  }
};

/// Of one loading warp; its lanes agree.
template <class Config>
struct Tickets {
  unsigned* counter;  // zero as the kernel starts
  Mailbox& mailbox;
  const int rank, warp;

  unsigned ahead = 0;  // of the lane that draws: drawn while the tile before is loaded
  int told = 0;

  __device__ int workers() const { return static_cast<int>(gridDim.x) / Config::kCluster; }

  __device__ int first() {
    draw();
    return static_cast<int>(blockIdx.x) / Config::kCluster;
  }

  __device__ int next() {
    unsigned number = uniform(threadIdx.x % 32 == 0 ? ahead : 0);
    const int slot = told % Mailbox::kSlots;
    if (draws()) {
      tell(slot, number);
    } else {
      ptx::barrier_wait(ptx::shared_address(&mailbox.arrived[slot]), told / Mailbox::kSlots & 1);
      number = uniform(mailbox.read(slot));
      if (Config::kCluster > 1 && warp == Config::kLoaders - 1 && threadIdx.x % 32 == 0) mailbox.expect(slot);
    }
    ++told;
    draw();
    return workers() + static_cast<int>(number);
  }

 private:
  __device__ bool draws() const { return rank == 0 && warp == 0; }

  __device__ void draw() {
    if (draws() && threadIdx.x % 32 == 0) ahead = atomicAdd(counter, 1);
  }

  __device__ void tell(int slot, unsigned number) const {
    const unsigned lane = threadIdx.x % 32;
    const std::uint32_t arrived = ptx::shared_address(&mailbox.arrived[slot]);
    if constexpr (Config::kCluster > 1) {
      const std::uint32_t to = ptx::shared_address(&mailbox.numbers[slot]);
      if (lane < Config::kCluster) ptx::send(ptx::in_block(to, lane), number, ptx::in_block(arrived, lane));
    } else if (lane == 0) {
      mailbox.write(slot, number);
      ptx::barrier_arrive(arrived);
    }
    __syncwarp();
  }
};

}  // namespace maskmm::cuda::sm90
