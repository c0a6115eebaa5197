// The multiplying warpgroups where masks of blocks of 32 scale: as in multiply_32.cuh, but the products of one block of
// a with a slice of 32 k go into 16 registers beside the sums, and into the sums by one fused multiply-add with the
// block's factor, while those of the next block run into another 16. Under mask_rhs the two halves of an instruction's
// columns have factors of their own, and the half that is dead at a slice adds nothing.
#pragma once

#include "cuda/sm90/kept.cuh"
#include "cuda/sm90/multiply_32.cuh"
#include "cuda/sm90/multiply_scaled.cuh"

namespace maskmm::cuda::sm90 {

template <class Config>
struct ScaledMultiplier32 : Multiplier32<Config> {
  using Base = Multiplier32<Config>;
  using Element = typename Config::Element;
  using Base::group, Base::params, Base::kAll;
  static constexpr bool kPairs = Config::kSkip == Skip::pairs;

  __device__ void run() const {
    const Ring<Config> ring{uniform(ptx::kept(Base::ring.start))};
    const std::uint32_t fragment = ptx::kept(Base::fragment_offset());
    RingPosition<Config> position;
    float sums[128], products[32];  // of the sums 96 are used
#pragma unroll
    for (int i = 0; i < 32; ++i) products[i] = 0;
    for (;;) {
#pragma unroll
      for (int i = 0; i < 96; ++i) sums[i] = 0;
      unsigned started = 0;  // the rows of blocks that hold sums of this warp's column
      unsigned live, word;
      do {
        ptx::barrier_wait(ring.full(position.slot), position.parity);
        word = live = uniform(ptx::load_shared_word(ring.state(position.slot)));
#pragma unroll 1
        for (int i = 0; i < Config::kSlices; ++i) {
          if (i > 0)
            word = kPairs ? uniform(ptx::load_shared_word(ring.second(position.slot))) : live >> StageState::kSlice;
          const unsigned rows = word >> (kPairs ? group * Pairs32::kRows : 0) & kAll;
          if (rows == 0) continue;
          Factors factors{ring.row_scales(position.slot, i), 1, true};
          if constexpr (kPairs) {
            factors.rhs = ptx::load_shared_float(ring.column_scales(position.slot, i) + column() * 4);
            factors.live = uniform(word >> (Pairs32::kFirstColumn + column()) & 1);
            if (factors.live) started |= rows;
          }
          slice(sums, products, ring.slice(position.slot, i), fragment, rows, factors);
        }
        if (live & (StageState::kLast | StageState::kExit)) break;
        ring.release(position.slot);
        position.next();
      } while (true);
      const uint4 state = ptx::load_shared(ring.state(position.slot));
      ring.release(position.slot);
      position.next();
      if (live & StageState::kExit) break;
      if constexpr (kPairs) {
        if (params.multiply.live_out.words != nullptr) keep(sums, state, started);
      }
      this->store(sums, state, (kPairs ? word >> Pairs32::kOwned : live >> StageState::kOwned) & kAll);
    }
  }

 private:
  /// Of a slice: mask_lhs's values in shared memory, and that of mask_rhs for this warp's columns, if they are live.
  struct Factors {
    std::uint32_t lhs;
    float rhs;
    bool live;
  };

  /// The block of 32 columns that this warp has.
  __device__ int column() const { return 2 * group + static_cast<int>(threadIdx.x) % 128 / 64; }

  static __device__ void slice(float (&sums)[128], float (&products)[32], std::uint32_t slice, std::uint32_t fragment,
                               unsigned rows, const Factors& factors) {
    unsigned fragments[8];
    Base::load_fragments(fragments, slice + fragment);
    const unsigned a = uniform(Base::A::low(slice));
    if (rows == kAll) {
      start<0>(products, fragments, a);
      start<1>(products, fragments, a);
      next<0>(sums, products, fragments, a, factors);
      next<1>(sums, products, fragments, a, factors);
      next<2>(sums, products, fragments, a, factors);
      next<3>(sums, products, fragments, a, factors);
      add<4, 1>(sums, products, factors);
      add<5, 0>(sums, products, factors);
    } else {
      one<0>(sums, products, fragments, a, rows, factors);
      one<1>(sums, products, fragments, a, rows, factors);
      one<2>(sums, products, fragments, a, rows, factors);
      one<3>(sums, products, fragments, a, rows, factors);
      one<4>(sums, products, fragments, a, rows, factors);
      one<5>(sums, products, fragments, a, rows, factors);
    }
  }

  /// Adds the products of a block, and starts those of the next but one.
  template <int kRow>
  static __device__ void next(float (&sums)[128], float (&products)[32], const unsigned (&fragments)[8], unsigned a,
                              const Factors& factors) {
    add<kRow, 1>(sums, products, factors);
    start<kRow + 2>(products, fragments, a);
  }

  template <int kRow>
  static __device__ void one(float (&sums)[128], float (&products)[32], const unsigned (&fragments)[8], unsigned a,
                             unsigned rows, const Factors& factors) {
    if (!(rows >> kRow & 1)) return;
    start<kRow>(products, fragments, a);
    add<kRow, 0>(sums, products, factors);
  }

  template <int kRow>
  static __device__ void start(float (&products)[32], const unsigned (&fragments)[8], unsigned a) {
    constexpr int kFirst = kRow % 2 * 16;
    constexpr unsigned kBlockOffset = kRow * (Ring<Config>::kRowBlockBytes / 16);
    ptx::products_begin();
    ptx::multiply_32<Element, Config::kA, kFirst>(products, &fragments[0], Base::A::make(a + kBlockOffset), 0);
    ptx::multiply_32<Element, Config::kA, kFirst>(products, &fragments[4],
                                                  Base::A::make(a + kBlockOffset + Base::A::kStep), 1);
    ptx::products_commit();
  }

  /// Waits for the products of a block, behind which kPending groups may be unfinished, and adds them.
  template <int kRow, int kPending>
  static __device__ void add(float (&sums)[128], float (&products)[32], const Factors& factors) {
    constexpr int kFirst = kRow % 2 * 16;
    const float lhs = ptx::load_shared_float(factors.lhs + kRow * 4);
    ptx::products_wait<kPending>();
    float scale = lhs;
#pragma unroll
    for (int i = kFirst; i < kFirst + 16; ++i) asm volatile("" : "+f"(products[i])::"memory");  // behind the wait
    if constexpr (kPairs) {
      if (!factors.live) return;
      scale = lhs * factors.rhs;
      if (!is_plain(scale)) {
        const double exact = static_cast<double>(lhs) * factors.rhs;
#pragma unroll
        for (int i = kFirst; i < kFirst + 16; ++i) products[i] = static_cast<float>(exact * products[i]);
        scale = 1;
      }
    }
#pragma unroll
    for (int i = 0; i < 16; ++i) sums[16 * kRow + i] = fmaf(scale, products[kFirst + i], sums[16 * kRow + i]);
  }

  /// mask_out's values; +0 where it drops a block, and where nothing was added.
  __device__ void keep(float (&sums)[128], const uint4& state, unsigned started) const {
    const MultiplyParams& p = params.multiply;
    const int row = static_cast<int>(state.y), batch = static_cast<int>(state.w);
    const int first_column = static_cast<int>(state.z) + column() * Config::kBlock;
    const auto* scales = static_cast<const float*>(p.scale_out.values);
    if (scales != nullptr) scales += batch * p.scale_out.values_per_batch + (first_column >> p.block_n);
#pragma unroll
    for (int r = 0; r < Config::kRowBlocks; ++r) {
      const int first = row + r * Config::kBlock;
      const bool kept = started >> r & 1 && first < p.m && first_column < p.n && keeps(p, batch, first, first_column);
      const float value = kept && scales != nullptr ? scales[(first >> p.block_m) * p.scale_out.values_per_row] : 1.f;
#pragma unroll
      for (int i = 16 * r; i < 16 * r + 16; ++i) sums[i] = kept ? sums[i] * value : 0.f;
    }
  }
};

}  // namespace maskmm::cuda::sm90
