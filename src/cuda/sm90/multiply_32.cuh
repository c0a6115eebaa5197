// The multiplying warpgroups for blocks of 32: each product is transposed. 64 columns of b, in registers (ldmatrix),
// times one block of 32 rows of a, which is exactly an n32 instruction; a shared b would run n32 at two thirds of the
// rate. A warpgroup has 64 of the tile's 192 columns; a stage holds two slices of 32 k.
#pragma once

#include "cuda/sm90/order.cuh"
#include "cuda/sm90/stage.cuh"
#include "cuda/sm90/store.cuh"

namespace maskmm::cuda::sm90 {

template <class Config>
struct Multiplier32 {
  using Element = typename Config::Element;
  using A = ptx::Descriptor32<Config::kA>;
  static constexpr unsigned kAll = (1u << Config::kRowBlocks) - 1;

  const HopperParams& params;
  const Ring<Config> ring;
  const int group;  // this warpgroup's columns in the tile

  __device__ void run() const {
    // Kept in registers: worked out anew for each stage, they are what low densities wait for.
    const Ring<Config> ring{uniform(ptx::kept(this->ring.start))};
    const std::uint32_t fragment = ptx::kept(fragment_offset());
    RingPosition<Config> position;
    float sums[128];  // of which 96 are used
    unsigned first[8], second[8];
    for (;;) {
#pragma unroll
      for (int i = 0; i < 96; ++i) sums[i] = 0;
      int held = -1;
      uint4 state;
      unsigned live;
      do {
        ptx::barrier_wait(ring.full(position.slot), position.parity);
        state = ptx::load_shared(ring.state(position.slot));
        const std::uint32_t slice = ring.slice(position.slot, 0);
        live = uniform(state.x);
        const int slot = position.slot;
        position.next();
        const unsigned a = uniform(A::low(slice));
        const unsigned rows = live & kAll, next_rows = live >> StageState::kSlice & kAll;
        load_fragments(first, slice + fragment);  // what may be unfinished reads `second`
        if (rows != 0) {
          products(sums, first, a, rows);
          ptx::products_wait<1>();  // what is unfinished is of this slice
          if (held >= 0) ring.release(held);
          held = slot;
          if (next_rows != 0) {
            load_fragments(second, slice + Ring<Config>::kSliceBytes + fragment);
            products(sums, second, a + Ring<Config>::kSliceBytes / 16, next_rows);
            ptx::products_wait<1>();
          }
        } else {
          if (held >= 0) {
            ptx::products_wait<0>();
            ring.release(held);
            held = -1;
          }
          ring.release(slot);
        }
      } while (!(live & (StageState::kLast | StageState::kExit)));
      ptx::products_wait<0>();
#pragma unroll
      for (int i = 0; i < 96; ++i) asm volatile("" : "+f"(sums[i])::"memory");
      if (held >= 0) ring.release(held);
      if (live & StageState::kExit) break;
      store(sums, state, live >> StageState::kOwned & kAll);
    }
  }

 protected:
  /// Where a thread's rows for ldmatrix begin in a slice.
  __device__ std::uint32_t fragment_offset() const {
    const int lane = threadIdx.x % 32, warp = threadIdx.x % 128 / 32, matrix = lane / 8, row = lane % 8;
    const auto b = static_cast<int>(Ring<Config>::b(0, group * (64 / Config::kColumnWidth)));
    if constexpr (Config::kB == Layout::k_major) {
      const int line = warp * 16 + matrix % 2 * 8 + row;
      return b + line * 64 + ((matrix / 2 ^ (line / 2 & 3)) << 4);
    } else {
      const int k = matrix / 2 * 8 + row, chunk = warp * 2 + matrix % 2;
      if constexpr (kPairs32<Config>) {  // 32 columns, 64 bytes, a row
        return b + warp / 2 * Ring<Config>::kColumnBlockBytes + k * 64 + ((chunk % 4 ^ (k / 2 & 3)) << 4);
      }
      return b + k * 128 + ((chunk ^ (k & 7)) << 4);
    }
  }

  /// 64 columns by 32 of k: two fragments of 16 k.
  static __device__ void load_fragments(unsigned (&fragments)[8], std::uint32_t from) {
    if constexpr (Config::kB == Layout::k_major) {
      ptx::load_matrices<Layout::k_major>(&fragments[0], from);
      ptx::load_matrices<Layout::k_major>(&fragments[4], from ^ 32);
    } else {
      ptx::load_matrices<Layout::line_major>(&fragments[0], from);
      ptx::load_matrices<Layout::line_major>(&fragments[4], from + 16 * 2 * Config::kColumnWidth);
    }
  }

  static __device__ void products(float (&sums)[128], const unsigned (&fragments)[8], unsigned a, unsigned rows) {
    if (rows == kAll) {  // one group without branches
      ptx::products_begin();
      step<0>(sums, &fragments[0], a), step<1>(sums, &fragments[0], a), step<2>(sums, &fragments[0], a);
      step<3>(sums, &fragments[0], a), step<4>(sums, &fragments[0], a), step<5>(sums, &fragments[0], a);
      const unsigned next = a + A::kStep;
      step<0>(sums, &fragments[4], next), step<1>(sums, &fragments[4], next), step<2>(sums, &fragments[4], next);
      step<3>(sums, &fragments[4], next), step<4>(sums, &fragments[4], next), step<5>(sums, &fragments[4], next);
      ptx::products_commit();
      return;
    }
    block<0>(sums, fragments, a, rows), block<1>(sums, fragments, a, rows), block<2>(sums, fragments, a, rows);
    block<3>(sums, fragments, a, rows), block<4>(sums, fragments, a, rows), block<5>(sums, fragments, a, rows);
  }

  template <int kRow>
  static __device__ void block(float (&sums)[128], const unsigned (&fragments)[8], unsigned a, unsigned rows) {
    if (!(rows >> kRow & 1)) return;
    ptx::products_begin();
    step<kRow>(sums, &fragments[0], a);
    step<kRow>(sums, &fragments[4], a + A::kStep);
    ptx::products_commit();
  }

  template <int kRow>
  static __device__ void step(float (&sums)[128], const unsigned* fragment, unsigned a) {
    ptx::multiply_32<Element, Config::kA, 16 * kRow>(sums, fragment,
                                                     A::make(a + kRow * (Ring<Config>::kRowBlockBytes / 16)), 1);
  }

  /// The sums are those of the transposed result.
  __device__ void store(float (&sums)[128], uint4 state, unsigned owned) const {
    const MultiplyParams& p = params.multiply;
    const int row = static_cast<int>(state.y), column = static_cast<int>(state.z) + group * 64;
    if (column >= p.n) return;
    const int left = static_cast<int>(smaller(p.n - column, 64));
    const auto first = [&](int i) { return owned >> (2 * i) & 1 ? row + i * 64 : -1; };
    Writer<Element, 3>{
        p.out.data + batch_offset(p.batch, p.out.batch, static_cast<int>(state.w)) + column * p.out.col_stride,
        p.out.col_stride,
        p.out.row_stride,
        left,
        make_int4(first(0), first(1), first(2), -1),
        static_cast<int>(p.m),
        params.down && p.m % 8 == 0,
        p.out.vectors && left % 8 == 0,
        p.out.aligned}
        .write(sums);
  }
};

}  // namespace maskmm::cuda::sm90
