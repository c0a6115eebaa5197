// The Hopper kernel for blocks of 32: mask_lhs alone skips.
//
// Roles as in kernel.cuh, but each product is transposed: 64 columns of b, in registers (ldmatrix), times one block of
// 32 rows of a, which is exactly an n32 instruction; a shared b would run n32 at two thirds of the rate. A stage holds
// two slices of 32 of k, which need not be neighbours: b (192 columns, 64 a warpgroup), then up to six blocks of a, 2
// KB each.
//   a  32 rows of 64 bytes, swizzled over 64 bytes: lines with k along them (k_major), or k with lines along them
//   b  k_major: 192 lines of 64 bytes, swizzled over 64; line_major: three times 32 k of 128 bytes, swizzled over 128
#pragma once

#include "cuda/kernel_table.hpp"
#include "cuda/sm90/order.cuh"
#include "cuda/sm90/stage.cuh"
#include "cuda/sm90/store.cuh"
#include "cuda/sm90/tickets.cuh"
#include "cuda/sm90/walk.cuh"

namespace maskmm::cuda::sm90 {

inline constexpr int kSliceShift = 8;  // StageState::live: rows of the second slice

template <class Config>
struct Loader32 {
  static constexpr int kColumnBytes = Config::kColumns * Config::kBlock * 2;  // b of a slice

  const HopperParams& params;
  const Ring<Config> ring;
  const Order<Config> order;
  Tickets<Config> tickets;

  RingPosition<Config> position{};
  Place place{};
  int inner = 0, outer = 0;  // batch coordinates
  unsigned first_live = 0;   // of the stage's first slice, once it is there
  int slices = 0;            // of the stage

  __device__ void run() {
    const MultiplyParams& multiply = params.multiply;
    Walker<Config> walker;
    const int total = static_cast<int>(uniform(static_cast<unsigned>(order.total())));
    for (int index = tickets.first(); index < total; index = tickets.next()) {
      place = order.at(index);
      inner = place.batch, outer = 0;
      if (multiply.batch.rank == 2) {
        outer = place.batch / static_cast<int>(multiply.batch.size[1]);
        inner -= outer * static_cast<int>(multiply.batch.size[1]);
      }
      walker.start(multiply, place);
      bool more = walker.next();
      if (!more) slice(0, 0, StageState::kLast);
      while (more) {
        int k = walker.k_block << multiply.block_k;
        const int end = min(k + (1 << multiply.block_k), static_cast<int>(multiply.k));
        const unsigned live = walker.live;
        more = walker.next();
        do {
          slice(k, live, !more && k + Config::kBlock >= end ? StageState::kLast : 0);
          k += Config::kBlock;
        } while (k < end);
      }
    }
    slice(0, 0, StageState::kExit);
  }

 private:
  /// One slice; `flags` close the stage, and so does the second one.
  __device__ void slice(int k, unsigned live, unsigned flags) {
    if (slices == 0) ptx::barrier_wait(ring.empty(position.slot), position.parity ^ 1);
    const bool closes = slices == 1 || flags != 0;
    if (threadIdx.x % 32 == 0) {
      const std::uint32_t full = ring.full(position.slot);
      const std::uint32_t bytes = live != 0 ? kColumnBytes + __popc(live) * Config::kBlockBytes : 0;
      if (closes) {
        const unsigned both = slices == 0 ? live : first_live | live << kSliceShift;
        ptx::store_shared(ring.state(position.slot),
                          make_uint4(both | place.owned << StageState::kOwned | flags, static_cast<unsigned>(place.row),
                                     static_cast<unsigned>(place.column), static_cast<unsigned>(place.batch)));
        ptx::barrier_arrive_expecting(full, bytes);
      } else {
        ptx::barrier_expect(full, bytes);
      }
      if (live != 0) load(k, live, full);
    }
    __syncwarp();
    if (closes) {
      slices = 0;
      position.next();
    } else {
      first_live = live;
      slices = 1;
    }
  }

  __device__ void load(int k, unsigned live, std::uint32_t full) const {
    const std::uint32_t b = ring.a(position.slot, 0) + slices * Config::kSliceBytes, a = b + kColumnBytes;
    const int b_inner = inner * params.b_batch.inner, b_outer = outer * params.b_batch.outer;
    if (Config::kB == Layout::k_major) {
      ptx::copy_box(b, params.b, full, {k, place.column, 0, b_inner, b_outer});
    } else if (params.b_whole) {
      ptx::copy_box(b, params.b, full, {0, k, place.column / kBlock, b_inner, b_outer});
    } else {
#pragma unroll
      for (int j = 0; j < 3; ++j) {
        ptx::copy_box(b + j * kColumnBytes / 3, params.b, full, {place.column + j * kBlock, k, 0, b_inner, b_outer});
      }
    }
    const int a_inner = inner * params.a_batch.inner, a_outer = outer * params.a_batch.outer;
    if (Config::kA == Layout::k_major && live == (1u << Config::kRowBlocks) - 1) {
      ptx::copy_box(a, params.a_whole, full, {k, place.row, 0, a_inner, a_outer});
      return;
    }
#pragma unroll
    for (int i = 0; i < Config::kRowBlocks; ++i) {
      const int line = place.row + i * Config::kBlock;
      const ptx::Coordinates at = Config::kA == Layout::k_major ? ptx::Coordinates{k, line, 0, a_inner, a_outer}
                                                                : ptx::Coordinates{line, k, 0, a_inner, a_outer};
      if (live >> i & 1) ptx::copy_box(a + i * Config::kBlockBytes, params.a, full, at);
    }
  }
};

template <class Config>
struct Multiplier32 {
  using Element = typename Config::Element;
  using A = ptx::Descriptor32<Config::kA>;
  static constexpr unsigned kAll = (1u << Config::kRowBlocks) - 1;

  const HopperParams& params;
  const Ring<Config> ring;
  const int group;  // this warpgroup's columns in the tile

  __device__ void run() const {
    RingPosition<Config> position;
    const std::uint32_t fragment = fragment_offset();
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
        live = uniform(state.x);
        const int slot = position.slot;
        position.next();
        const std::uint32_t stage = ring.a(slot, 0);
        const unsigned a = uniform(A::low(stage + Loader32<Config>::kColumnBytes));
        const unsigned rows = live & kAll, next_rows = live >> kSliceShift & kAll;
        if (rows != 0) {
          load_fragments(first, stage + fragment);
          products(sums, first, a, rows);
          ptx::products_wait<1>();  // what is unfinished is of this slice
          if (held >= 0) ring.release(held);
          held = slot;
          if (next_rows != 0) {
            load_fragments(second, stage + Config::kSliceBytes + fragment);
            products(sums, second, a + Config::kSliceBytes / 16, next_rows);
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

 private:
  /// Where a thread's rows for ldmatrix begin in a slice.
  __device__ std::uint32_t fragment_offset() const {
    const int lane = threadIdx.x % 32, warp = threadIdx.x % 128 / 32, matrix = lane / 8, row = lane % 8;
    if constexpr (Config::kB == Layout::k_major) {
      const int line = warp * 16 + matrix % 2 * 8 + row;
      return group * 4096 + line * 64 + ((matrix / 2 ^ (line / 2 & 3)) << 4);
    } else {
      const int k = matrix / 2 * 8 + row, chunk = warp * 2 + matrix % 2;
      return group * 4096 + k * 128 + ((chunk ^ (k & 7)) << 4);
    }
  }

  /// 64 columns by 32 of k: two fragments of 16 k.
  static __device__ void load_fragments(unsigned (&fragments)[8], std::uint32_t from) {
    if constexpr (Config::kB == Layout::k_major) {
      ptx::load_matrices<Layout::k_major>(&fragments[0], from);
      ptx::load_matrices<Layout::k_major>(&fragments[4], from ^ 32);
    } else {
      ptx::load_matrices<Layout::line_major>(&fragments[0], from);
      ptx::load_matrices<Layout::line_major>(&fragments[4], from + 2048);
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
    ptx::multiply_32<Element, Config::kA, 16 * kRow>(sums, fragment, A::make(a + kRow * (Config::kBlockBytes / 16)));
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

struct SharedState32 {
  RowOrder order;
  Mailbox mailbox;
};

template <class Config>
__global__ void __launch_bounds__(Config::kThreads, 1) hopper_kernel_32(const __grid_constant__ HopperParams params) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  if (params.multiply.scaled != nullptr && *params.multiply.scaled != 0) return;

  extern __shared__ __align__(1024) std::byte shared[];
  const Ring<Config> ring{ptx::shared_address(shared)};
  SharedState32& state = *reinterpret_cast<SharedState32*>(shared + Ring<Config>::kBytes);
  if (threadIdx.x == 0) {
    ring.init();
    ptx::publish_barriers();
  }
  const Order<Config> order{params, state.order};
  order.prepare();
  __syncthreads();

  const unsigned group = uniform(threadIdx.x / 128);
  if (group == 0) {
    ptx::give_registers<Config::kLoadRegisters>();
    if (uniform(threadIdx.x / 32) == 0) {
      Loader32<Config>{params, ring, order, {params.ticket_counter, state.mailbox, 0}}.run();
    }
  } else {
    ptx::take_registers<Config::kMultiplyRegisters>();
    Multiplier32<Config>{params, ring, static_cast<int>(group) - 1}.run();
  }
#else
  __trap();  // never chosen: see DeviceLimits::hopper_code
#endif
}

template <class Config>
Kernel kernel_32_of(const char* name) {
  Kernel kernel;
  kernel.function = reinterpret_cast<const void*>(&hopper_kernel_32<Config>);
  kernel.name = name;
  kernel.rows = Config::kRows;
  kernel.columns = Config::kColumns;
  kernel.threads = Config::kThreads;
  kernel.blocks_per_sm = 1;
  static_assert((Ring<Config>::kBytes + sizeof(SharedState32)) % kStages == 0);
  kernel.stage_bytes = (Ring<Config>::kBytes + sizeof(SharedState32)) / kStages;
  kernel.cluster = Config::kCluster;
  kernel.block = Config::kBlock;
  return kernel;
}

}  // namespace maskmm::cuda::sm90
