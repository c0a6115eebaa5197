// What next: the tiles of a launch in their order, and the live blocks of k of one tile.
#pragma once

#include "cuda/load.cuh"
#include "cuda/params.hpp"

namespace maskmm::cuda {

struct Tile {
  std::int64_t batch, split;
  std::int64_t row, column;  // first element
};

__device__ inline std::int64_t smaller(std::int64_t x, std::int64_t y) { return x < y ? x : y; }

/// x / y, none of them negative: in 64 bits a division is a call of about a hundred instructions, and seldom needed.
__device__ inline std::int64_t divide(std::int64_t x, std::int64_t y) {
  return (x | y) >> 32 == 0 ? static_cast<unsigned>(x) / static_cast<unsigned>(y) : x / y;
}

/// Groups of rows of tiles: the tiles that run at one time share rows of a and columns of b in L2.
__device__ inline Tile tile_at(const Schedule& schedule, std::int64_t index, int rows, int columns) {
  const std::int64_t per_matrix = schedule.tiles_m * schedule.tiles_n;
  const std::int64_t matrix = divide(index, per_matrix), tile = index - matrix * per_matrix;
  const std::int64_t per_group = schedule.group * schedule.tiles_n;
  const std::int64_t group = divide(tile, per_group), in_group = tile - group * per_group;
  const std::int64_t first = group * schedule.group, height = smaller(schedule.group, schedule.tiles_m - first);
  const std::int64_t column = divide(in_group, height);
  Tile result;
  result.batch = schedule.splits == 1 ? matrix : divide(matrix, schedule.splits);
  result.split = matrix - result.batch * schedule.splits;
  result.row = (first + in_group - column * height) * rows;
  result.column = column * columns;
  return result;
}

/// The tile of a thread block that has no other: those of a matrix down, then right.
__device__ inline Tile tile_of_block(const Schedule& schedule, int rows, int columns) {
  const auto tiles_m = static_cast<unsigned>(schedule.tiles_m), tiles_n = static_cast<unsigned>(schedule.tiles_n);
  const unsigned column = blockIdx.x / tiles_m, batch = column / tiles_n;
  return {batch, 0, static_cast<std::int64_t>(blockIdx.x - column * tiles_m) * rows,
          static_cast<std::int64_t>(column - batch * tiles_n) * columns};
}

/// The tiles of one thread block, in their order. Where the plan made a list, heaviest first, turns go to and fro, so
/// that every block gets about the same work; dead tiles come last.
class TileCursor {
 public:
  __device__ explicit TileCursor(const MultiplyParams& params)
      : list_(params.list.tiles), live_(params.schedule.total), all_(live_) {
    if (list_ != nullptr) live_ = params.list.counts[0], all_ = params.list.counts[1];
  }
  __device__ bool any() const { return all_ > 0; }
  /// Whether there is another live tile; its index is then written to `index`.
  __device__ bool next_live(std::int64_t& index) { return next(live_, index); }
  /// The same for dead tiles, once no live one is left. Without a list, all tiles count as live.
  __device__ bool next_dead(std::int64_t& index) { return next(all_, index); }

 private:
  /// A block's places ascend, to and fro or not.
  __device__ bool next(std::int64_t end, std::int64_t& index) {
    const std::int64_t at = round_ + (backwards_ ? gridDim.x - 1 - blockIdx.x : blockIdx.x);
    if (at >= end) return false;
    round_ += gridDim.x;
    backwards_ = list_ != nullptr && !backwards_;
    index = list_ != nullptr ? list_[at] : at;
    return true;
  }

  const unsigned* list_;
  std::int64_t live_, all_;
  std::int64_t round_ = 0;  // the first place of the round
  bool backwards_ = false;
};

/// Byte offset of element `index` of the batch.
template <int kMostAxes>
__device__ std::int64_t batch_offset(const ShapeOf<kMostAxes>& shape, const StridesOf<kMostAxes>& strides,
                                     std::int64_t index) {
  std::int64_t offset = 0;
  for (int axis = shape.rank - 1; axis >= 0 && index != 0; --axis) {
    const std::int64_t rest = divide(index, shape.size[axis]);
    offset += (index - rest * shape.size[axis]) * strides.bytes[axis];
    index = rest;
  }
  return offset;
}

/// log2 of a block's extent within a tile: a block may reach over several tiles.
template <int kExtent>
__device__ int shift_in_tile(int block_shift) {
  constexpr int kLog2 = kExtent == 32 ? 5 : kExtent == 64 ? 6 : kExtent == 128 ? 7 : 8;
  static_assert(1 << kLog2 == kExtent);
  return block_shift < kLog2 ? block_shift : kLog2;
}

__device__ inline std::uint64_t or_over_warp(std::uint64_t bits) {
  const unsigned low = __reduce_or_sync(kAllLanes, static_cast<unsigned>(bits));
  const unsigned high = __reduce_or_sync(kAllLanes, static_cast<unsigned>(bits >> 32));
  return std::uint64_t{high} << 32 | low;
}

/// Walks the live k blocks of a tile of up to 16 x 16 blocks; every loading warp walks for itself. Lanes 0 to 15 each
/// hold the bit row of a block row of the tile, lanes 16 to 31 that of a block column.
template <int kTileRows, int kTileColumns>
struct Walker {
  int k_block;          // if wanted: the live block that the walk stands at
  unsigned lines;       // if wanted: bits 0 to 15: block rows of a that are live there, 16 to 31: block columns of b
  unsigned live_lines;  // if wanted: those of them that some live triple of this tile needs
  bool done = true;

  __device__ void start(const MultiplyParams& params, const Tile& tile, bool wants_lines) {
    const int lane = threadIdx.x % 32;
    const bool is_row = lane < 16;
    const int block_shift =
        is_row ? shift_in_tile<kTileRows>(params.block_m) : shift_in_tile<kTileColumns>(params.block_n);
    const std::int64_t first = is_row ? tile.row : tile.column, extent = is_row ? params.m : params.n;
    const std::int64_t element = first + (std::int64_t{lane % 16} << block_shift);
    const bool inside = element < extent && ((lane % 16) << block_shift) < (is_row ? kTileRows : kTileColumns);
    const BitRows& bits = is_row ? params.live_lhs : params.live_rhs;
    row_ = bits.words + tile.batch * bits.words_per_batch +
           (element >> (is_row ? params.block_m : params.block_n)) * bits.words_per_row;
    bits_are_ = !inside ? kZeros : bits.words == nullptr ? kOnes : kInMemory;
    if (params.live_out.words != nullptr) start_filter(params, tile, inside, element);

    const int begin = static_cast<int>(tile.split * params.schedule.blocks_per_split);
    end_ = static_cast<int>(smaller(begin + params.schedule.blocks_per_split, params.k_blocks));
    base_ = begin / 64 * 64;
    live_ = 0;
    done = begin >= end_;
    if (done) return;
    ahead_ = read(base_);
    next_word(begin);
    advance(params, wants_lines);
  }

  /// To the next live block, or `done`.
  __device__ void advance(const MultiplyParams& params, bool wants_lines) {
    for (;;) {
      while (live_ == 0) {
        base_ += 64;
        if (base_ >= end_) {
          done = true;
          return;
        }
        next_word(base_);
      }
      const bool filtered = params.live_out.words != nullptr;
      if (!wants_lines && !filtered) {
        live_ &= live_ - 1;
        return;
      }
      const int bit = __ffsll(static_cast<long long>(live_)) - 1;
      live_ &= live_ - 1;
      const bool mine = (word_ >> bit) & 1;
      live_lines = lines = __ballot_sync(kAllLanes, mine);
      if (filtered) {
        live_lines = __ballot_sync(kAllLanes, mine && (lines & partners_) != 0);
        if (live_lines == 0) continue;
      }
      k_block = base_ + bit;
      return;
    }
  }

 private:
  /// mask_out: each lane keeps the block columns (or rows) whose pairing with its own row (or column) is live.
  __device__ void start_filter(const MultiplyParams& params, const Tile& tile, bool inside, std::int64_t element) {
    const int lane = threadIdx.x % 32;
    const BitRows& bits = params.live_out;
    unsigned row_bits = 0;
    if (lane < 16 && inside) {
      const std::int64_t block_column = tile.column >> params.block_n;
      const std::uint64_t word = bits.words[tile.batch * bits.words_per_batch +
                                            (element >> params.block_m) * bits.words_per_row + block_column / 64];
      row_bits = static_cast<unsigned>(word >> (block_column % 64)) & 0xffffu;
    }
    unsigned column_bits = 0;
#pragma unroll 1
    for (int row = 0; row < 16; ++row) {
      column_bits |= ((__shfl_sync(kAllLanes, row_bits, row) >> (lane % 16)) & 1) << row;
    }
    partners_ = lane < 16 ? row_bits << 16 : column_bits;
  }

  /// This lane's bits of the 64 blocks from `base` on.
  __device__ std::uint64_t read(int base) const {
    if (bits_are_ == kInMemory) return base < end_ ? row_[base / 64] : 0;
    return bits_are_ == kOnes ? ~std::uint64_t{0} : 0;
  }

  /// Takes the word that was fetched ahead; blocks before `begin` and from end_ on are left out.
  __device__ void next_word(int begin) {
    word_ = ahead_;
    ahead_ = read(base_ + 64);
    const bool is_row = threadIdx.x % 32 < 16;
    live_ = or_over_warp(is_row ? word_ : 0) & or_over_warp(is_row ? 0 : word_);
    live_ &= ~std::uint64_t{0} << (begin - base_);
    if (end_ - base_ < 64) live_ &= (std::uint64_t{1} << (end_ - base_)) - 1;
  }

  const std::uint64_t* row_;
  std::uint64_t word_, ahead_;  // of this lane's row: under the walk, and the next
  std::uint64_t live_;          // live k blocks of the tile that are still to come in this word
  int base_, end_;
  unsigned partners_;  // the block columns (or rows) that mask_out lets this lane's row (or column) meet
  enum { kZeros, kOnes, kInMemory } bits_are_;
};

/// The live squares (16 x 16) of the part of a tile that one warp multiplies: lane i * kWarpColumns + j answers for
/// square (i, j).
template <class Shape>
struct PairFinder {
  __device__ void start(const MultiplyParams& params, const Tile& tile, int warp_row, int warp_column) {
    const int lane = threadIdx.x % 32;
    const int row = warp_row + lane / Shape::kWarpColumns % Shape::kWarpRows * 16;
    const int column = warp_column + lane % Shape::kWarpColumns * 16;
    row_shift_ = row >> shift_in_tile<Shape::kRows>(params.block_m);
    column_shift_ = 16 + (column >> shift_in_tile<Shape::kColumns>(params.block_n));
    answers_ = lane < Shape::kWarpRows * Shape::kWarpColumns;
    const BitRows& bits = params.live_out;
    if (bits.words != nullptr && answers_) {
      const std::int64_t i = tile.row + row, j = tile.column + column, block_column = j >> params.block_n;
      answers_ = i < params.m && j < params.n &&
                 (bits.words[tile.batch * bits.words_per_batch + (i >> params.block_m) * bits.words_per_row +
                             block_column / 64] >>
                      (block_column % 64) &
                  1);
    }
  }

  /// One bit for each square, given the live block rows and columns of the tile.
  __device__ unsigned pairs(unsigned lines) const {
    return __ballot_sync(kAllLanes, answers_ && (lines >> row_shift_) & (lines >> column_shift_) & 1);
  }

 private:
  int row_shift_, column_shift_;
  bool answers_;
};

}  // namespace maskmm::cuda
