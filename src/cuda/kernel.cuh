// The one kernel of the simt and sm80 families, around a Multiply that says how a warp multiplies what lies in shared
// memory.
//
// Roles: every thread block walks its tiles; each of its warps loads a share of every stage (asynchronous copies) and
// multiplies a part of the tile of its own. Warps are tied by the ring's barriers only: one whose part of a stage is
// dead goes on at once, into the next tile even, so that loads, products and stores of neighbouring tiles overlap.
//   full[slot]   every thread's copies into the slot have landed
//   empty[slot]  every warp is through with the slot
// Memory: params.stages slots of kStageBytes (a, b, scales), then the barriers. Design: docs/design/cuda.md.
#pragma once

#include "cuda/epilogue.cuh"
#include "cuda/kernel_table.hpp"
#include "cuda/load.cuh"
#include "cuda/schedule.cuh"

namespace maskmm::cuda {

/// A tile of a thread block and how its warps share it. Extents in elements.
template <int kRows_, int kColumns_, int kWarpsDown_, int kWarpsAcross_>
struct TileShape {
  static constexpr int kRows = kRows_, kColumns = kColumns_;
  static constexpr int kWarpsDown = kWarpsDown_, kWarpsAcross = kWarpsAcross_;
  static constexpr int kThreads = 32 * kWarpsDown * kWarpsAcross;
  static constexpr int kWarpRows = kRows / kWarpsDown / 16;           // squares of 16 x 16
  static constexpr int kWarpColumns = kColumns / kWarpsAcross / 16;  // squares of 16 x 16
  static_assert(kWarpRows * kWarpColumns <= 16, "the live squares of a warp are 16 bits");
};

/// What a Multiply sees of one stage.
struct StageView {
  std::uint32_t a, b;      // shared addresses
  const std::byte* scales;  // of the part i: 16 of block rows, 16 of block columns
  std::uint64_t pairs;     // 16 bits for each 16 elements of k: the live squares of this warp
};

template <class Multiply>
struct Ring {
  using Shape = typename Multiply::Shape;
  using LoadA = Loader<typename Multiply::Element, Shape::kRows, Shape::kThreads>;
  using LoadB = Loader<typename Multiply::Element, Shape::kColumns, Shape::kThreads>;
  static constexpr int kMaxParts = LoadA::kStageK / 16;
  static constexpr int kScaleBytes =
      Multiply::kMasks == Masks::scaling ? kMaxParts * 32 * int(sizeof(typename Multiply::Accumulator)) : 0;
  static constexpr int kStageBytes = LoadA::kBytes + LoadB::kBytes + kScaleBytes;
  static constexpr int bytes(int stages) { return stages * (kStageBytes + 16); }

  std::uint32_t start;
  int stages;
  __device__ std::uint32_t a(int slot) const { return start + slot * kStageBytes; }
  __device__ std::uint32_t b(int slot) const { return a(slot) + LoadA::kBytes; }
  __device__ std::uint32_t scales(int slot) const { return b(slot) + LoadB::kBytes; }
  __device__ std::uint32_t full(int slot) const { return start + stages * kStageBytes + slot * 16; }
  __device__ std::uint32_t empty(int slot) const { return full(slot) + 8; }
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

/// Loads the stages of this block's tiles, one after the other. A tile ends with a stage marked last; a dead tile has
/// one empty stage. What the consumer must know of a stage is kept in the lane of its slot's number.
template <class Multiply>
struct Producer {
  using Shape = typename Multiply::Shape;
  using Accumulator = typename Multiply::Accumulator;
  static constexpr int kStageK = Ring<Multiply>::LoadA::kStageK;
  static constexpr unsigned kLast = 1, kEmpty = 2;

  std::int64_t index = blockIdx.x;  // of the tile
  std::uint64_t pairs = 0;
  unsigned marks = 0;

  __device__ bool more(const MultiplyParams& params) const { return index < params.schedule.total; }

  __device__ void produce(const MultiplyParams& params, const Ring<Multiply>& ring, int warp_row, int warp_column) {
    if (!open_) open(params, warp_row, warp_column);
    if (wraps_) ptx::barrier_wait(ring.empty(position_.slot), position_.parity ^ 1);

    const int lane = threadIdx.x % 32;
    const int part_shift = part_k_shift(params), parts = kStageK >> part_shift;
    std::int64_t part_k = 0;
    unsigned part_lines = 0;
    std::uint64_t stage_pairs = 0;
    int filled = 0;
    while (filled < parts && !walker_.done) {
      const std::int64_t k = (std::int64_t{walker_.k_block} << params.block_k) + k_in_block_;
      if (lane == filled) part_k = k, part_lines = walker_.live_lines;
      for (int slice = 0; slice < 1 << part_shift; slice += 16) {
        stage_pairs |= std::uint64_t{walker_.live_pairs} << ((filled << part_shift) + slice);
      }
      if constexpr (Multiply::kMasks == Masks::scaling) load_scales(params, ring, filled);
      ++filled;
      k_in_block_ += kStageK;
      if (k_in_block_ >= 1 << params.block_k || k + kStageK >= params.k) {
        k_in_block_ = 0;
        walker_.advance(params);
      }
    }
    if (filled > 0) {
      const StageParts rows{part_k, part_lines & 0xffffu, part_shift, params.block_m};
      const StageParts columns{part_k, part_lines >> 16, part_shift, params.block_n};
      a_.load(params.a, params.k, rows, ring.a(position_.slot));
      b_.load(params.b, params.k, columns, ring.b(position_.slot));
    }
    if (params.a.vectors && params.b.vectors) {
      ptx::barrier_arrive_after_copies(ring.full(position_.slot));
    } else {  // ordinary stores into shared memory are ordered by an ordinary arrival only
      ptx::wait_for_copies();
      ptx::barrier_arrive(ring.full(position_.slot));
    }

    if (lane == position_.slot) {
      pairs = stage_pairs;
      marks = (walker_.done ? kLast : 0) | (filled == 0 ? kEmpty : 0);
    }
    if (walker_.done) {
      open_ = false;
      index += gridDim.x;
    }
    position_.next(ring.stages);
    wraps_ = wraps_ || position_.slot == 0;
  }

 private:
  /// log2 of the elements of k in one part of a stage.
  static __device__ int part_k_shift(const MultiplyParams& params) {
    constexpr int kLog2 = kStageK == 64 ? 6 : kStageK == 32 ? 5 : 4;
    return params.block_k < kLog2 ? params.block_k : kLog2;
  }

  __device__ void open(const MultiplyParams& params, int warp_row, int warp_column) {
    const Tile tile = tile_at(params.schedule, index, Shape::kRows, Shape::kColumns);
    open_ = true;
    k_in_block_ = 0;
    walker_.start(params, tile, warp_row, warp_column);
    place(params, params.a, tile.row, tile.batch, a_);
    place(params, params.b, tile.column, tile.batch, b_);
    if constexpr (Multiply::kMasks == Masks::scaling) {
      const bool is_row = threadIdx.x % 32 < 16;
      const Scales& scales = is_row ? params.scale_lhs : params.scale_rhs;
      const int shift = is_row ? params.block_m : params.block_n;
      const std::int64_t element = (is_row ? tile.row : tile.column) + (std::int64_t{threadIdx.x % 16} << shift);
      has_scale_ = scales.values != nullptr && element < (is_row ? params.m : params.n) && threadIdx.x < 32 &&
                   (int(threadIdx.x % 16) << shift) < (is_row ? Shape::kRows : Shape::kColumns);
      scale_row_ = static_cast<const Accumulator*>(scales.values) + tile.batch * scales.values_per_batch +
                   (element >> (is_row ? params.block_m : params.block_n)) * scales.values_per_row;
    }
  }

  template <class Load>
  static __device__ void place(const MultiplyParams& params, const Source& source, std::int64_t line,
                               std::int64_t batch, Load& load) {
    constexpr int kLines = Load::kBytes / kStageKBytes;
    load.base = source.data + batch_offset(params.batch, source.batch, batch) + line * source.line_stride;
    load.lines_left = static_cast<int>(smaller(source.lines - line, kLines));
  }

  __device__ void load_scales(const MultiplyParams&, const Ring<Multiply>& ring, int part) const {
    constexpr int kSize = sizeof(Accumulator);
    if (!has_scale_) return;
    ptx::copy_small<kSize>(ring.scales(position_.slot) + (part * 32 + threadIdx.x) * kSize,
                           scale_row_ + walker_.k_block, kSize);
  }

  Walker<Shape::kRows, Shape::kColumns, Shape::kWarpRows, Shape::kWarpColumns> walker_;
  typename Ring<Multiply>::LoadA a_;
  typename Ring<Multiply>::LoadB b_;
  const Accumulator* scale_row_;
  RingPosition position_;
  int k_in_block_;
  bool open_ = false, wraps_ = false, has_scale_ = false;
};

template <class Multiply>
__global__ void __launch_bounds__(Multiply::Shape::kThreads, Multiply::kBlocksPerSm)
    multiply_kernel(const __grid_constant__ MultiplyParams params) {
  using Shape = typename Multiply::Shape;
  if (params.scaled != nullptr && (*params.scaled != 0) != (Multiply::kMasks == Masks::scaling)) return;

  extern __shared__ __align__(1024) std::byte shared[];
  const Ring<Multiply> ring{ptx::shared_address(shared), params.stages};
  if (threadIdx.x < params.stages) {
    ptx::barrier_init(ring.full(threadIdx.x), Shape::kThreads);
    ptx::barrier_init(ring.empty(threadIdx.x), Shape::kThreads / 32);
  }
  __syncthreads();

  const int warp = __shfl_sync(kAllLanes, threadIdx.x / 32, 0);
  const int warp_row = warp / Shape::kWarpsAcross * Shape::kWarpRows * 16;
  const int warp_column = warp % Shape::kWarpsAcross * Shape::kWarpColumns * 16;
  Producer<Multiply> producer;
  int to_fill = params.ahead;

  Multiply multiply(params, warp_row, warp_column);
  RingPosition position;
  for (std::int64_t index = blockIdx.x; index < params.schedule.total; index += gridDim.x) {
    multiply.clear();
    unsigned live = 0;
    bool last = false;
    while (!last) {
      if (producer.more(params)) {
        producer.produce(params, ring, warp_row, warp_column);
        if (--to_fill >= 0) continue;
      }
      StageView stage{ring.a(position.slot), ring.b(position.slot), shared + (ring.scales(position.slot) - ring.start),
                      __shfl_sync(kAllLanes, producer.pairs, position.slot)};
      const unsigned marks = __shfl_sync(kAllLanes, producer.marks, position.slot);
      last = marks & Producer<Multiply>::kLast;
      if (stage.pairs != 0 || marks & Producer<Multiply>::kEmpty) {
        ptx::barrier_wait(ring.full(position.slot), position.parity);
      }
      if (stage.pairs != 0) {
        multiply.stage(params, stage);
        live |= static_cast<unsigned>(stage.pairs | stage.pairs >> 16 | stage.pairs >> 32 | stage.pairs >> 48) & 0xffffu;
      }
      __syncwarp();
      if (threadIdx.x % 32 == 0) ptx::barrier_arrive(ring.empty(position.slot));
      position.next(ring.stages);
    }
    multiply.store(params, tile_at(params.schedule, index, Shape::kRows, Shape::kColumns), live);
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
  kernel.blocks_per_sm = Multiply::kBlocksPerSm;
  kernel.stage_bytes = Ring<Multiply>::bytes(1);
  return kernel;
}

}  // namespace maskmm::cuda
