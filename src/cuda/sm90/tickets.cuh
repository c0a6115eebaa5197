// Who takes which tile: each loading warp draws the number of its next tile from a counter, so that one with light
// tiles takes more of them. In a cluster the first block draws and tells the other.
#pragma once

#include "cuda/sm90/config.hpp"
#include "cuda/sm90/ptx.cuh"

namespace maskmm::cuda::sm90 {

/// In shared memory. The first block is at most a ring's stages ahead of the other, so that eight numbers do.
struct Mailbox {
  static constexpr int kSlots = 8;
  std::uint64_t arrived[kSlots];
  unsigned numbers[kSlots];

  __device__ unsigned read(int slot) const { return *static_cast<const volatile unsigned*>(&numbers[slot]); }

  __device__ void init(int rank) {
    for (int i = 0; i < kSlots; ++i) {
      ptx::barrier_init(ptx::shared_address(&arrived[i]), 1);
      if (rank > 0) ptx::barrier_arrive_expecting(ptx::shared_address(&arrived[i]), sizeof(unsigned));
    }
  }
};

/// One warp draws; its lanes agree.
template <class Config>
struct Tickets {
  unsigned* counter;  // zero as the kernel starts
  Mailbox& mailbox;
  const int rank;

  unsigned ahead = 0;  // of lane 0: drawn while the tile before is loaded
  int drawn = 0;

  __device__ int workers() const { return static_cast<int>(gridDim.x) / Config::kCluster; }

  __device__ int first() {
    draw();
    return static_cast<int>(blockIdx.x) / Config::kCluster;
  }

  __device__ int next() {
    unsigned number = ahead;
    if constexpr (Config::kCluster > 1) {
      const std::uint32_t slot = ptx::shared_address(&mailbox.numbers[drawn % Mailbox::kSlots]);
      const std::uint32_t arrived = ptx::shared_address(&mailbox.arrived[drawn % Mailbox::kSlots]);
      if (rank == 0) {
        if (threadIdx.x % 32 == 0) ptx::send(ptx::in_block(slot, 1), number, ptx::in_block(arrived, 1));
      } else {
        ptx::barrier_wait(arrived, drawn / Mailbox::kSlots & 1);
        number = mailbox.read(drawn % Mailbox::kSlots);
        if (threadIdx.x % 32 == 0) ptx::barrier_arrive_expecting(arrived, sizeof number);
      }
      ++drawn;
    }
    number = uniform(threadIdx.x % 32 == 0 ? number : 0);
    draw();
    return workers() + static_cast<int>(number);
  }

 private:
  __device__ void draw() {
    if (rank == 0 && threadIdx.x % 32 == 0) ahead = atomicAdd(counter, 1);
  }
};

}  // namespace maskmm::cuda::sm90
