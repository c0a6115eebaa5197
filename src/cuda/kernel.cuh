// The one kernel of the simt and sm80 families, around a Multiply that says how a warp multiplies what lies in shared
// memory.
//
// Roles: a thread block walks its tiles, one after the other. Its last warps load: each walks the live k blocks and
// copies what is live (asynchronous copies) into a ring of stages, one warp a stage, in turn. The others multiply, each
// a part of the tile of its own. Warps are tied by the ring's barriers only: one whose part of a stage is dead goes on
// at once, and the loads of the next tile run while the last one is stored.
//   full[slot]   the copies of the warp that loads it have landed, and what the stage holds is written down
//   empty[slot]  every multiplying warp is through with the slot
// Memory: params.stages slots of kStageBytes (a, b, scales), then a SlotState for each. Design: docs/design/cuda.md.
#pragma once

#include "cuda/dot.cuh"
#include "cuda/early.cuh"
#include "cuda/epilogue.cuh"
#include "cuda/kernel_table.hpp"
#include "cuda/load.cuh"
#include "cuda/schedule.cuh"

namespace maskmm::cuda {

/// A tile of a thread block and how its multiplying warps share it. Extents in elements.
template <int kRows_, int kColumns_, int kWarpsDown_, int kWarpsAcross_, int kLoadWarps_, int kBlocksPerSm_>
struct TileShape {
  static constexpr int kRows = kRows_, kColumns = kColumns_;
  static constexpr int kWarpsDown = kWarpsDown_, kWarpsAcross = kWarpsAcross_;
  static constexpr int kMultiplyWarps = kWarpsDown * kWarpsAcross, kLoadWarps = kLoadWarps_;
  static constexpr int kThreads = 32 * (kMultiplyWarps + kLoadWarps);
  static constexpr int kBlocksPerSm = kBlocksPerSm_;
  static constexpr int kWarpRows = kRows / kWarpsDown / 16;          // squares of 16 x 16
  static constexpr int kWarpColumns = kColumns / kWarpsAcross / 16;  // squares of 16 x 16
  /// Such a block starts with 384 * 168 registers: 8 * 32 * kMultiplyRegisters + 4 * 32 * kLoadRegisters.
  static constexpr bool kHandsRegistersOver = kMultiplyWarps == 8 && kLoadWarps == 4 && kBlocksPerSm == 1;
  /// 64 x 64 sums for a warp leave no room for anything else in 168 registers.
  static constexpr bool kNeedsHopper = kWarpRows * kWarpColumns == 16 || kMultiplyWarps == 16;
  static_assert(kWarpRows * kWarpColumns <= 16, "the live squares of a warp are 16 bits");
};

/// What a Multiply sees of one part of a stage: the elements k_begin to k_end of the stage, all of one live k block.
struct PartView {
  std::uint32_t a, b;       // shared addresses of the stage
  int k_begin, k_end;       // multiples of 16
  unsigned pairs;           // the live squares of this warp, never none
  const std::byte* scales;  // 16 of block rows, 16 of block columns
};

/// What is written down of a stage, beside its barriers.
struct SlotState {
  std::uint64_t full, empty;
  unsigned lines[4];  // of each part: live block rows and columns, as in Walker
  unsigned last;      // the tile ends here
  unsigned unused[3];
};

template <class Multiply>
struct Ring {
  using Shape = typename Multiply::Shape;
  using LoadA = Loader<typename Multiply::Element, Shape::kRows>;
  using LoadB = Loader<typename Multiply::Element, Shape::kColumns>;
  static constexpr int kStageK = LoadA::kStageK;
  static constexpr int kMaxParts = kStageK / 16;
  static constexpr int kScaleBytes =
      Multiply::kMasks == Masks::scaling ? kMaxParts * 32 * int(sizeof(typename Multiply::Accumulator)) : 0;
  static constexpr int kStageBytes = LoadA::kBytes + LoadB::kBytes + kScaleBytes;
  static constexpr int kSlotBytes = kStageBytes + int(sizeof(SlotState));

  std::byte* start;
  int stages;
  __device__ std::byte* a(int slot) const { return start + slot * kStageBytes; }
  __device__ std::byte* b(int slot) const { return a(slot) + LoadA::kBytes; }
  __device__ std::byte* scales(int slot) const { return b(slot) + LoadB::kBytes; }
  __device__ SlotState& state(int slot) const {
    return reinterpret_cast<SlotState*>(start + stages * kStageBytes)[slot];
  }
  __device__ std::uint32_t full(int slot) const { return ptx::shared_address(&state(slot).full); }
  __device__ std::uint32_t empty(int slot) const { return ptx::shared_address(&state(slot).empty); }

  /// log2 of the elements of k in one part of a stage.
  static __device__ int part_shift(const MultiplyParams& params) {
    constexpr int kLog2 = kStageK == 64 ? 6 : kStageK == 32 ? 5 : 4;
    return params.block_k < kLog2 ? params.block_k : kLog2;
  }
};

/// A place in the ring and the parity of the barriers' phases there.
struct RingPosition {
  int slot = 0;
  unsigned parity = 0;
  __device__ void next(int stages) {
    if (++slot == stages) {
      slot = 0;
      parity ^= 1;
    }
  }
};

/// Loads the stages of this block's tiles, in turn with the other loading warps. A tile ends with a stage marked last;
/// a dead tile has one empty stage.
template <class Multiply>
struct Producer {
  using Shape = typename Multiply::Shape;
  using Accumulator = typename Multiply::Accumulator;
  static constexpr int kStageK = Ring<Multiply>::kStageK;

  /// `turn` is the first stage of this warp.
  __device__ static void run(const MultiplyParams& params, const Ring<Multiply>& ring, int turn) {
    Producer producer;
    RingPosition position;
    bool wraps = false;
    TileCursor cursor(params);
    for (std::int64_t index; cursor.next_live(index);) {
      producer.open(params, tile_at(params.schedule, index, Shape::kRows, Shape::kColumns), turn == 0);
      do {
        const bool mine = turn == 0;
        turn = mine ? Shape::kLoadWarps - 1 : turn - 1;
        if (mine && wraps) ptx::barrier_wait(ring.empty(position.slot), position.parity ^ 1);
        producer.stage(params, ring, position.slot, mine, turn == 0);
        position.next(ring.stages);
        wraps = wraps || position.slot == 0;
      } while (!producer.walker_.done);
    }
  }

 private:
  static __device__ int lane() { return threadIdx.x % 32; }

  /// Whether a block of k fills several stages, which are of different warps.
  static __device__ bool spans_stages(const MultiplyParams& params) { return 1 << params.block_k > kStageK; }

  __device__ void open(const MultiplyParams& params, const Tile& tile, bool first_is_mine) {
    k_in_block_ = 0;
    walker_.start(params, tile, spans_stages(params) || first_is_mine);
    place(params, params.a, tile.row, tile.batch, a_);
    place(params, params.b, tile.column, tile.batch, b_);
    if constexpr (Multiply::kMasks == Masks::scaling) {
      const bool is_row = lane() < 16;
      const Scales& scales = is_row ? params.scale_lhs : params.scale_rhs;
      const int shift = is_row ? params.block_m : params.block_n;
      const std::int64_t element = (is_row ? tile.row : tile.column) + (std::int64_t{lane() % 16} << shift);
      has_scale_ = scales.values != nullptr && element < (is_row ? params.m : params.n) &&
                   (lane() % 16 << shift) < (is_row ? Shape::kRows : Shape::kColumns);
      scale_row_ = static_cast<const Accumulator*>(scales.values) + tile.batch * scales.values_per_batch +
                   (element >> shift) * scales.values_per_row;
    }
  }

  template <class Load>
  static __device__ void place(const MultiplyParams& params, const Source& source, std::int64_t line,
                               std::int64_t batch, Load& load) {
    load.base = source.data + batch_offset(params.batch, source.batch, batch) + line * source.line_stride;
    load.lines_left = static_cast<int>(smaller(source.lines - line, Load::kBytes / kStageKBytes));
  }

  /// Walks over the parts of one stage; loads them if the stage is this warp's.
  __device__ void stage(const MultiplyParams& params, const Ring<Multiply>& ring, int slot, bool mine,
                        bool next_is_mine) {
    const int part_shift = Ring<Multiply>::part_shift(params), parts = kStageK >> part_shift;
    StageParts rows{0, 0, part_shift, params.block_m, parts == 1};
    unsigned lines = 0;  // of part i, in lane i
    bool any = false;
#pragma unroll 1
    for (int part = 0; part < parts && !walker_.done; ++part) {
      any = true;
      const std::int64_t k = (std::int64_t{walker_.k_block} << params.block_k) + k_in_block_;
      if (lane() == part) lines = walker_.lines;
      if (lane() == part || parts == 1) rows.k = k, rows.live_lines = walker_.live_lines;
      if constexpr (Multiply::kMasks == Masks::scaling) {
        if (mine) load_scale(ring, slot, part);
      }
      k_in_block_ += kStageK;
      if (k_in_block_ >= 1 << params.block_k || k + kStageK >= params.k) {
        k_in_block_ = 0;
        walker_.advance(params, spans_stages(params) || (part + 1 < parts ? mine : next_is_mine));
      }
    }
    if (!mine) return;
    SlotState& state = ring.state(slot);
    if (lane() < parts) state.lines[lane()] = lines;
    if (lane() == 0) state.last = walker_.done;
    __syncwarp();
    if (lane() == 0) ptx::barrier_arrive(ring.full(slot));
    if (any) {
      StageParts columns = rows;
      columns.live_lines >>= 16;
      columns.block_shift = params.block_n;
      rows.live_lines &= 0xffffu;
      a_.load(params.a, params.k, rows, ptx::shared_address(ring.a(slot)));
      b_.load(params.b, params.k, columns, ptx::shared_address(ring.b(slot)));
    }
    if (params.a.vectors && params.b.vectors) {
      ptx::barrier_arrive_after_copies(ring.full(slot));
    } else {  // ordinary stores into shared memory are ordered by an ordinary arrival only
      ptx::wait_for_copies();
      ptx::barrier_arrive(ring.full(slot));
    }
  }

  __device__ void load_scale(const Ring<Multiply>& ring, int slot, int part) const {
    constexpr int kSize = sizeof(Accumulator);
    if (!has_scale_) return;
    ptx::copy_small<kSize>(ptx::shared_address(ring.scales(slot)) + (part * 32 + lane()) * kSize,
                           scale_row_ + walker_.k_block, kSize);
  }

  Walker<Shape::kRows, Shape::kColumns> walker_;
  typename Ring<Multiply>::LoadA a_;
  typename Ring<Multiply>::LoadB b_;
  const Accumulator* scale_row_;
  int k_in_block_;
  bool has_scale_ = false;
};

/// Multiplies the stages in this warp's part of the tiles.
template <class Multiply>
__device__ void consume(const MultiplyParams& params, const Ring<Multiply>& ring, int warp) {
  using Shape = typename Multiply::Shape;
  const int warp_row = warp / Shape::kWarpsAcross * Shape::kWarpRows * 16;
  // The two warps of a scheduler (warp, warp + 4) differ in their rows and in their columns, so that dead block rows
  // and dead block columns leave one of them with work.
  constexpr int kAcross = Shape::kWarpsAcross, kTurn = Shape::kWarpsDown > 1 ? kAcross / 2 : 0;
  const int warp_column = (warp + warp / 4 * kTurn) % kAcross * Shape::kWarpColumns * 16;
  const int part_shift = Ring<Multiply>::part_shift(params);
  constexpr int kPartScaleBytes = 32 * sizeof(typename Multiply::Accumulator);
  Multiply multiply(params, warp_row, warp_column);
  PairFinder<Shape> finder;
  RingPosition position;
  TileCursor cursor(params);
  std::int64_t index;
  while (cursor.next_live(index)) {
    const Tile tile = tile_at(params.schedule, index, Shape::kRows, Shape::kColumns);
    finder.start(params, tile, warp_row, warp_column);
    multiply.clear();
    unsigned live = 0;
    bool last = false;
    while (!last) {
      ptx::barrier_wait(ring.full(position.slot), position.parity);
      const SlotState& state = ring.state(position.slot);
      last = state.last;
      const std::uint32_t a = ptx::shared_address(ring.a(position.slot));
#pragma unroll 1
      for (int part = 0; part << part_shift < Ring<Multiply>::kStageK; ++part) {
        const unsigned pairs = finder.pairs(state.lines[part]);
        if (pairs == 0) continue;
        live |= pairs;
        multiply.part(params, {a, a + Ring<Multiply>::LoadA::kBytes, part << part_shift, (part + 1) << part_shift,
                               pairs, ring.scales(position.slot) + part * kPartScaleBytes});
      }
      ptx::barrier_arrive_of_warp(ring.empty(position.slot));
      position.next(ring.stages);
    }
    if (params.x.data == nullptr) {
      multiply.store(params, tile, live);
    } else {
      DotEpilogue<Multiply>::store(multiply, params, tile, live);
    }
  }
  while (cursor.next_dead(index)) {
    const Tile tile = tile_at(params.schedule, index, Shape::kRows, Shape::kColumns);
    if (params.x.data != nullptr) {
      multiply.clear();
      DotEpilogue<Multiply>::store(multiply, params, tile, 0);
      continue;
    }
    write_zeros<typename Multiply::Element, Shape::kRows, Shape::kColumns, 32 * Shape::kMultiplyWarps>(params, tile);
  }
}

template <class Multiply>
constexpr bool hands_all_registers_over() {
  return 8 * Multiply::kMultiplyRegisters + 4 * Multiply::kLoadRegisters == 12 * 168;
}

template <class Multiply>
__global__ void __launch_bounds__(Multiply::Shape::kThreads, Multiply::Shape::kBlocksPerSm)
    multiply_kernel(const __grid_constant__ MultiplyParams params) {
  using Shape = typename Multiply::Shape;
  static_assert(hands_all_registers_over<Multiply>());
#ifndef __CUDA_ARCH_FEAT_SM90_ALL
  if constexpr (Shape::kNeedsHopper) {
    __trap();  // never chosen: see DeviceLimits::hopper_code
    return;
  }
#endif
  extern __shared__ __align__(1024) std::byte shared[];
  const Ring<Multiply> ring{shared, params.stages};
  if (threadIdx.x < params.stages) {
    ptx::barrier_init(ring.full(threadIdx.x), 32 + 1);
    ptx::barrier_init(ring.empty(threadIdx.x), Shape::kMultiplyWarps * ptx::kWarpArrivals);
  }
  ptx::wait_for_launches_before();
  if (params.scaled != nullptr && (*params.scaled != 0) != (Multiply::kMasks == Masks::scaling)) return;
  if (params.list.tiles != nullptr && params.list.counts[1] == 0) return;
  __syncthreads();
  const int warp = __shfl_sync(kAllLanes, threadIdx.x / 32, 0);
  if (warp < Shape::kMultiplyWarps) {
    if constexpr (Shape::kHandsRegistersOver) ptx::take_registers<Multiply::kMultiplyRegisters>();
    consume<Multiply>(params, ring, warp);
  } else {
    if constexpr (Shape::kHandsRegistersOver) ptx::give_registers<Multiply::kLoadRegisters>();
    Producer<Multiply>::run(params, ring, warp - Shape::kMultiplyWarps);
  }
}

template <class Multiply>
Kernel kernel_of(const char* name) {
  using Shape = typename Multiply::Shape;
  Kernel kernel;
  kernel.function = reinterpret_cast<const void*>(&multiply_kernel<Multiply>);
  kernel.name = name;
  kernel.rows = Shape::kRows;
  kernel.columns = Shape::kColumns;
  kernel.threads = Shape::kThreads;
  kernel.blocks_per_sm = Shape::kBlocksPerSm;
  kernel.stage_bytes = Ring<Multiply>::kSlotBytes;
  kernel.busy_cost = Multiply::kBusyCost;
  kernel.idle_cost = Multiply::kIdleCost;
  kernel.sorts = sizeof(typename Multiply::Element) > 2;
  return kernel;
}

}  // namespace maskmm::cuda
