// The multiplying warpgroups: each 64 rows by 256 columns of the tile, from shared memory into 128 registers a thread.
#pragma once

#include "cuda/sm90/dot.cuh"
#include "cuda/sm90/order.cuh"
#include "cuda/sm90/stage.cuh"
#include "cuda/sm90/store.cuh"

namespace maskmm::cuda::sm90 {

template <class Config>
struct Multiplier {
  using Element = typename Config::Element;
  using A = ptx::Descriptor<Config::kA>;
  using B = ptx::Descriptor<Config::kB>;
  static constexpr int kSteps = kBlock / 16;

  const HopperParams& params;
  const Ring<Config> ring;
  const int group;  // this warpgroup's row of blocks in the tile

  __device__ void run() const {
    RingPosition<Config> position;
    float sums[128];
    for (;;) {
      unsigned started = 0;  // the columns of blocks that hold sums
      int held = -1;         // the slot whose products may be running
      uint4 state;
      unsigned live;
      do {
        ptx::barrier_wait(ring.full(position.slot), position.parity);
        state = ptx::load_shared(ring.state(position.slot));
        live = uniform(state.x);
        const int slot = position.slot;
        position.next();
        if constexpr (Config::kFinish == Finish::dot) {
          if (live & StageState::kX) {
            finish_products(sums, held);
            if (started != 0) {
              dot(state).multiply(sums, ring.slice(slot, 0), started, live & StageState::kRight);
            }
            ring.release(slot);
            continue;
          }
        }
        const unsigned mine = mine_of(live);
        if (mine != 0) {
          stage(sums, slot, Config::kGathers ? live >> StageState::kHalves & 3 : mine, started);
          if (Config::kGathers && (live >> StageState::kHalves & 3) == 3) {
            ptx::products_wait<2>();
          } else {
            ptx::products_wait<1>();
          }
          if (held >= 0) ring.release(held);
          held = slot;
        } else {
          if (held >= 0) {
            ptx::products_wait<0>();
            ring.release(held);
            held = -1;
          }
          ring.release(slot);
        }
      } while (!(live & (StageState::kLast | StageState::kExit)));
      finish_products(sums, held);
      if (live & StageState::kExit) break;
      if (!(live >> (StageState::kOwned + group) & 1)) continue;
      if constexpr (Config::kFinish == Finish::dot) {
        if (started == 0) dot(state).write_dead();
        continue;
      }
      Store<Config>{params, live >> StageState::kColumns & 0xf, static_cast<int>(state.y) + group * kBlock,
                    static_cast<int>(state.z), static_cast<int>(state.w)}
          .run(sums, started);
    }
  }

 private:
  /// Waits for all products; `held` is the slot that they read.
  __device__ void finish_products(float (&sums)[128], int& held) const {
    ptx::products_wait<0>();
#pragma unroll
    for (int i = 0; i < 128; ++i) asm volatile("" : "+f"(sums[i])::"memory");
    if (held >= 0) ring.release(held);
    held = -1;
  }

  __device__ Dot<Config> dot(const uint4& state) const {
    return {params.multiply, group, static_cast<int>(state.y) + group * kBlock, static_cast<int>(state.z),
            static_cast<int>(state.w)};
  }

  __device__ unsigned mine_of(unsigned live) const {
    if constexpr (Config::kSkip == Skip::rows) return live >> group & 1;
    return live >> (group * kColumnBlocks) & 0xf;
  }

  /// Starts the products of one stage. The groups are closed where they are opened: the compiler adds an empty group
  /// where paths with products meet before the commit, and would wait for the real ones.
  __device__ void stage(float (&sums)[128], int slot, unsigned mine, unsigned& started) const {
    const std::uint32_t slice = ring.slice(slot, 0);
    const unsigned a = uniform(A::low(ring.a(slice, group))), b = uniform(B::low(ring.b(slice, 0)));
    if constexpr (Config::kGathers) {
      half<0>(sums, a, b, mine, started);
      half<1>(sums, a, b, mine, started);
      started = (mine & 1 ? 0x3 : 0) | (mine & 2 ? 0xc : 0);
    } else if constexpr (Config::kSkip == Skip::rows) {
      ptx::products_begin();
#pragma unroll
      for (int k = 0; k < kSteps; ++k) {
        const int accumulate = k > 0 ? 1 : static_cast<int>(started);
        step<128, 0>(sums, a, b, k, accumulate);
        step<128, 64>(sums, a, b, k, accumulate);
      }
      ptx::products_commit();
      started = 0xf;
    } else {
      column<0>(sums, a, b, mine, started);
      column<1>(sums, a, b, mine, started);
      column<2>(sums, a, b, mine, started);
      column<3>(sums, a, b, mine, started);
      started |= mine;
    }
  }

  template <int kColumn>
  __device__ void column(float (&sums)[128], unsigned a, unsigned b, unsigned mine, unsigned started) const {
    if (!(mine >> kColumn & 1)) return;
    ptx::products_begin();
#pragma unroll
    for (int k = 0; k < kSteps; ++k) step<64, kColumn * 32>(sums, a, b, k, k > 0 ? 1 : started >> kColumn & 1);
    ptx::products_commit();
  }

  template <int kHalf>
  __device__ void half(float (&sums)[128], unsigned a, unsigned b, unsigned mine, unsigned started) const {
    if (!(mine >> kHalf & 1)) return;
    ptx::products_begin();
#pragma unroll
    for (int k = 0; k < kSteps; ++k)
      step<128, kHalf * 64>(sums, a, b, k, k > 0 ? 1 : static_cast<int>(started >> (2 * kHalf) & 1));
    ptx::products_commit();
  }

  template <int kWidth, int kFirst>
  static __device__ void step(float (&sums)[128], unsigned a, unsigned b, int k, int accumulate) {
    constexpr unsigned kColumnOffset = kFirst / 32 * B::kChunk;
    ptx::multiply<Element, Config::kA, Config::kB, kWidth, kFirst>(
        sums, A::make(a + k * A::kStep), B::make(b + kColumnOffset + k * B::kStep), accumulate);
  }
};

}  // namespace maskmm::cuda::sm90
