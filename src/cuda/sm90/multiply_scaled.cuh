// The multiplying warpgroups where masks scale: each 64 rows by 256 columns. The products of one column of blocks, in
// 32 registers beside the sums, go into the sums by one fused multiply-add with mask_lhs * mask_rhs, while those of the
// next column run into another 32.
#pragma once

#include "cuda/sm90/order.cuh"
#include "cuda/sm90/stage.cuh"
#include "cuda/sm90/store.cuh"

namespace maskmm::cuda::sm90 {

/// Finite and not subnormal: float32 may hold it. The others take the way through float64.
__device__ inline bool is_plain(float scale) {
  return fabsf(scale) >= 1.17549435e-38f && fabsf(scale) <= 3.40282347e+38f;
}

template <class Config>
struct ScaledMultiplier {
  using Element = typename Config::Element;
  using A = ptx::Descriptor<Config::kA>;
  using B = ptx::Descriptor<Config::kB>;
  static constexpr int kSteps = kBlock / 16;
  static constexpr unsigned kAll = (1u << kColumnBlocks) - 1;

  const HopperParams& params;
  const Ring<Config> ring;
  const int group;  // this warpgroup's row of blocks in the tile

  __device__ void run() const {
    RingPosition<Config> position;
    float sums[128], products[64];
#pragma unroll
    for (int i = 0; i < 64; ++i) products[i] = 0;
    for (;;) {
#pragma unroll
      for (int i = 0; i < 128; ++i) sums[i] = 0;
      unsigned started = 0;  // the columns of blocks that hold sums
      uint4 state;
      unsigned live;
      do {
        ptx::barrier_wait(ring.full(position.slot), position.parity);
        state = ptx::load_shared(ring.state(position.slot));
        live = uniform(state.x);
        const unsigned mine = mine_of(live);
        if (mine != 0) stage(sums, products, position.slot, mine);
        ring.release(position.slot);
        position.next();
        started |= mine;
      } while (!(live & (StageState::kLast | StageState::kExit)));
      if (live & StageState::kExit) break;
      if (!(live >> (StageState::kOwned + group) & 1)) continue;
      Store<Config>{params, 0, static_cast<int>(state.y) + group * kBlock, static_cast<int>(state.z),
                    static_cast<int>(state.w)}
          .run(sums, started);
    }
  }

 private:
  __device__ unsigned mine_of(unsigned live) const {
    if constexpr (Config::kSkip == Skip::pairs) return live >> (group * kColumnBlocks) & kAll;
    return live >> group & 1 ? kAll : 0;
  }

  __device__ void stage(float (&sums)[128], float (&products)[64], int slot, unsigned mine) const {
    const std::uint32_t slice = ring.slice(slot, 0);
    const unsigned a = uniform(A::low(ring.a(slice, group))), b = uniform(B::low(ring.b(slice, 0)));
    const float lhs = ptx::load_shared_float(ring.row_scale(slot, group));
    if constexpr (Config::kSkip == Skip::rows) {
      all_columns(sums, products, a, b, make_float4(lhs, lhs, lhs, lhs));
    } else {
      const uint4 bits = ptx::load_shared(ring.column_scales(slot, 0));
      const float4 rhs = make_float4(__uint_as_float(bits.x), __uint_as_float(bits.y), __uint_as_float(bits.z),
                                     __uint_as_float(bits.w));
      const float4 scales = make_float4(lhs * rhs.x, lhs * rhs.y, lhs * rhs.z, lhs * rhs.w);
      const bool plain = is_plain(scales.x) && is_plain(scales.y) && is_plain(scales.z) && is_plain(scales.w);
      if (uniform(mine == kAll && plain)) {
        all_columns(sums, products, a, b, scales);
      } else {
        column<0>(sums, products, a, b, mine, lhs, rhs.x);
        column<1>(sums, products, a, b, mine, lhs, rhs.y);
        column<2>(sums, products, a, b, mine, lhs, rhs.z);
        column<3>(sums, products, a, b, mine, lhs, rhs.w);
      }
    }
  }

  static __device__ void all_columns(float (&sums)[128], float (&products)[64], unsigned a, unsigned b, float4 scales) {
    start<0, 0>(products, a, b);
    start<1, 32>(products, a, b);
    ptx::products_wait<1>();
    add<0, 0>(sums, products, scales.x);
    start<2, 0>(products, a, b);
    ptx::products_wait<1>();
    add<1, 32>(sums, products, scales.y);
    start<3, 32>(products, a, b);
    ptx::products_wait<1>();
    add<2, 0>(sums, products, scales.z);
    ptx::products_wait<0>();
    add<3, 32>(sums, products, scales.w);
  }

  template <int kColumn>
  static __device__ void column(float (&sums)[128], float (&products)[64], unsigned a, unsigned b, unsigned mine,
                                float lhs, float rhs) {
    if (!(mine >> kColumn & 1)) return;
    start<kColumn, 0>(products, a, b);
    ptx::products_wait<0>();
    const float scale = lhs * rhs;
    const bool plain = is_plain(scale);
    if (!plain) {
      const double exact = static_cast<double>(lhs) * rhs;
      settle<0>(products);
#pragma unroll
      for (int i = 0; i < 32; ++i) products[i] = static_cast<float>(exact * products[i]);
    }
    add<kColumn, 0>(sums, products, plain ? scale : 1.f);
  }

  /// Starts the products of one column of blocks.
  template <int kColumn, int kFirst>
  static __device__ void start(float (&products)[64], unsigned a, unsigned b) {
    ptx::products_begin();
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      ptx::multiply<Element, Config::kA, Config::kB, 64, kFirst>(
          products, A::make(a + k * A::kStep), B::make(b + kColumn * B::kChunk + k * B::kStep), k > 0);
    }
    ptx::products_commit();
  }

  /// Keeps what reads the products behind the wait for them.
  template <int kFirst>
  static __device__ void settle(float (&products)[64]) {
#pragma unroll
    for (int i = kFirst; i < kFirst + 32; ++i) asm volatile("" : "+f"(products[i])::"memory");
  }

  template <int kColumn, int kFirst>
  static __device__ void add(float (&sums)[128], float (&products)[64], float scale) {
    settle<kFirst>(products);
#pragma unroll
    for (int i = 0; i < 32; ++i) sums[32 * kColumn + i] = fmaf(scale, products[kFirst + i], sums[32 * kColumn + i]);
  }
};

}  // namespace maskmm::cuda::sm90
