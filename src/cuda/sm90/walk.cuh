// The live k blocks of a tile, found by one warp: lanes 0 to 2 hold the bit rows of the tile's rows of blocks, lanes 16
// to 19 those of its columns of blocks (64 elements each; a mask's block may cover several).
#pragma once

#include "cuda/sm90/order.cuh"
#include "cuda/sm90/ptx.cuh"

namespace maskmm::cuda::sm90 {

template <class Config>
struct Walker {
  /// Every block of left_ has a live pair. Where loading warps have no registers for it, each block is looked at.
  static constexpr bool kExact =
      Config::kSkip == Skip::rows ||
      (Config::kFinish == Finish::store && (Config::kMasks == Masks::choosing || Config::kBlock == 32));

  int k_block;    // the live block that the walk stands at
  unsigned live;  // rows, or pairs (kColumnBlocks bits a row), that are live there

  __device__ void start(const MultiplyParams& params, const Place& place) {
    const int lane = threadIdx.x % 32;
    const bool is_row = lane < 16;
    const int element = (is_row ? place.row : place.column) + lane % 16 * Config::kBlock;
    const bool inside =
        is_row ? place.owned >> lane & 1 && element < params.m : lane % 16 < kLineColumns && element < params.n;
    const BitRows& bits = is_row ? params.live_lhs : params.live_rhs;
    words_ = nullptr;
    absent_ = inside ? ~0u : 0;
    if (inside && bits.words != nullptr && (is_row || Config::kSkip == Skip::pairs)) {
      const int block = element >> (is_row ? params.block_m : params.block_n);
      words_ = reinterpret_cast<const unsigned*>(bits.words + place.batch * bits.words_per_batch +
                                                 block * bits.words_per_row);
    }
    if constexpr (Config::kSkip == Skip::pairs) start_pairs(params, place, inside, element);
    const int begin = place.split * static_cast<int>(params.schedule.blocks_per_split);
    end_ = min(begin + static_cast<int>(params.schedule.blocks_per_split), static_cast<int>(params.k_blocks));
    base_ = begin / 32 * 32;
    seen_ = 0;
    ahead_ = read(base_);
    take_word(~0u << (begin - base_));
  }

  /// Pairs that were live somewhere in the tile, once it is walked; `columns` are those that lie in the matrix.
  __device__ unsigned seen(unsigned columns) const {
    static_assert(Config::kFinish == Finish::dot);
    if constexpr (Config::kSkip == Skip::pairs) return seen_;
    return pairs_of((__ballot_sync(0xffffffffu, seen_ != 0) & 0xffff) | columns << 16);
  }

  /// To the next live block; false where there is none.
  __device__ bool next() {
    do {
      while (left_ == 0) {
        if (base_ + 32 >= end_) return false;
        base_ += 32;
        take_word(~0u);
      }
      take_block();
    } while (!kExact && live == 0);
    return true;
  }

  /// Passes over up to `count` live blocks, without a look at which of their rows are live; returns how many. It stays
  /// within a word, so that the block where it stops is live too.
  __device__ int skip(int count) {
    static_assert(kExact);
    count = min(count, __popc(left_));
    if (count == 0) return 0;
#pragma unroll 1
    for (int i = 1; i < count; ++i) left_ &= left_ - 1;
    take_block();
    return count;
  }

 private:
  /// The first of left_, which has one.
  __device__ void take_block() {
    const int bit = __ffs(static_cast<int>(left_)) - 1;
    left_ &= left_ - 1;
    k_block = base_ + bit;
    const unsigned lines = __ballot_sync(0xffffffffu, word_ >> bit & 1);
    if constexpr (kPairs32<Config>) {
      live = pairs_32_of(lines);
    } else {
      live = Config::kSkip == Skip::rows ? lines & 0xffffu : allowed_ & pairs_of(lines);
    }
    if constexpr (Config::kFinish == Finish::dot && Config::kSkip == Skip::pairs) seen_ |= live;
  }

  static __device__ unsigned pairs_of(unsigned lines) {
    const unsigned columns = lines >> 16;
    return (lines & 1 ? columns : 0) | (lines & 2 ? columns << 4 : 0) | (lines & 4 ? columns << 8 : 0);
  }

  /// Six bits for each of three, by their bits 0, 2 and 4.
  static __device__ unsigned spread(unsigned columns) {
    constexpr unsigned kAll = (1u << Pairs32::kRows) - 1;
    return (columns & 1 ? kAll : 0) | (columns & 4 ? kAll << Pairs32::kRows : 0) |
           (columns & 16 ? kAll << (2 * Pairs32::kRows) : 0);
  }

  /// As in Pairs32. A column is loaded where some row is multiplied with it.
  __device__ unsigned pairs_32_of(unsigned lines) const {
    const unsigned rows = (lines & 0xffff) * Pairs32::kEachGroup, columns = lines >> 16;
    const unsigned left = rows & allowed_ & spread(columns), right = rows & allowed_right_ & spread(columns >> 1);
    unsigned loaded = 0;
#pragma unroll
    for (int group = 0; group < 3; ++group) {
      const unsigned mask = ((1u << Pairs32::kRows) - 1) << (group * Pairs32::kRows);
      loaded |= (left & mask ? 1u << (2 * group) : 0) | (right & mask ? 2u << (2 * group) : 0);
    }
    return left | right | loaded << Pairs32::kFirstColumn;
  }

  /// The pairs that lie in the matrix and that mask_out keeps.
  __device__ void start_pairs(const MultiplyParams& params, const Place& place, bool inside, int row) {
    const int lane = threadIdx.x % 32;
    unsigned& columns = kept_;
    columns = 0;
    if (lane < Config::kRowBlocks && inside) {
      const BitRows& bits = params.live_out;
#pragma unroll 1
      for (int c = 0; c < kLineColumns; ++c) {
        const int column = place.column + c * Config::kBlock, block = column >> params.block_n;
        if (column >= params.n) break;
        const bool kept =
            bits.words == nullptr || (bits.words[place.batch * bits.words_per_batch +
                                                 (row >> params.block_m) * bits.words_per_row + block / 64] >>
                                          (block % 64) &
                                      1);
        columns |= unsigned{kept} << c;
      }
    }
    if constexpr (kPairs32<Config>) {
      allowed_ = allowed_right_ = 0;
#pragma unroll 1
      for (int group = 0; group < 3; ++group) {
        allowed_ |= __ballot_sync(0xffffffffu, columns >> (2 * group) & 1) << (group * Pairs32::kRows);
        allowed_right_ |= __ballot_sync(0xffffffffu, columns >> (2 * group + 1) & 1) << (group * Pairs32::kRows);
      }
    } else {
      allowed_ = uniform(lane < Config::kRowBlocks ? columns << (kColumnBlocks * lane) : 0);
    }
  }

  __device__ unsigned read(int base) const { return words_ != nullptr && base < end_ ? words_[base / 32] : absent_; }

  /// Takes the word that was fetched ahead, without what lies outside `mask` or from end_ on.
  __device__ void take_word(unsigned mask) {
    word_ = ahead_;
    ahead_ = read(base_ + 32);
    const bool is_row = threadIdx.x % 32 < 16;
    unsigned lines = is_row ? word_ : 0;
    if constexpr (Config::kSkip == Skip::pairs && !kExact) {
      lines &= uniform(is_row ? 0 : word_);
    } else if constexpr (Config::kSkip == Skip::pairs) {
      unsigned columns = 0;
#pragma unroll
      for (int c = 0; c < kLineColumns; ++c) {
        const unsigned column = __shfl_sync(0xffffffffu, word_, 16 + c);
        if (kept_ >> c & 1) columns |= column;
      }
      lines &= columns;
    }
    left_ = uniform(lines) & mask;
    if (end_ - base_ < 32) left_ &= (1u << (end_ > base_ ? end_ - base_ : 0)) - 1;
    if constexpr (Config::kFinish == Finish::dot && Config::kSkip == Skip::rows) seen_ |= left_ & word_;
  }

  static constexpr int kLineColumns = Config::kColumns / Config::kBlock;

  const unsigned* words_;  // of this lane's line; null: absent_ stands for every word
  unsigned absent_, word_, ahead_;
  unsigned left_;  // live blocks of the tile that are still to come in this word
  int base_, end_;
  unsigned allowed_;        // pairs of blocks of 32: as in Pairs32, of the left 32 columns of each group
  unsigned allowed_right_;  // of the right ones
  unsigned kept_;           // columns of blocks that mask_out keeps in this lane's row
  unsigned seen_;           // of a dot: this lane's live blocks so far, or pairs
};

}  // namespace maskmm::cuda::sm90
