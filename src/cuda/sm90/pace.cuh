// Keeps the tiles that run at one time at about the same k, so that what one brings from memory the others find in L2:
// a tile enters a part of k once all of its wave have entered the part before. That is no more than a hint: the wait
// ends by itself, in case the others do not run at all.
#pragma once

#include "cuda/sm90/config.hpp"

namespace maskmm::cuda::sm90 {

/// Of the loading warp of a tile that draws.
struct Pace {
  unsigned* passed;  // tiles that have entered each part of k; null: no pace. Zero as the kernel starts
  int part_blocks;   // blocks of k in a part

  unsigned wave = 0;  // tiles of this wave and those before it
  int part = 0, next_at = 0;

  __device__ void open(int index, int total, int workers) {
    wave = static_cast<unsigned>(min((index / workers + 1) * workers, total));
    part = next_at = 0;
  }

  /// The tile goes on to this block of k.
  __device__ void enter(int k_block) {
    if (passed == nullptr || k_block < next_at) return;
    mark(k_block);
    if (part < 2) return;
    constexpr int kMostPolls = 64;
#pragma unroll 1
    for (int i = 0; i < kMostPolls && *static_cast<volatile unsigned*>(&passed[part - 2]) < wave; ++i) __nanosleep(200);
  }

  __device__ void close() {
    if (passed != nullptr) mark(kPaceParts * part_blocks - 1);
  }

 private:
  __device__ void mark(int k_block) {
    for (; next_at <= k_block && part < kPaceParts; ++part, next_at += part_blocks) {
      if (threadIdx.x % 32 == 0) atomicAdd(&passed[part], 1);
    }
  }
};

}  // namespace maskmm::cuda::sm90
