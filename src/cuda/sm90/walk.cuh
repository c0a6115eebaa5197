// The live k blocks of a tile, found by one warp: lanes 0 to 2 hold the bit rows of the tile's rows of blocks, lanes 16
// to 19 those of its columns of blocks (64 elements each; a mask's block may cover several). Of pairs, each lane then
// works out those of one k block in 32.
#pragma once

#include "cuda/sm90/order.cuh"
#include "cuda/sm90/ptx.cuh"

namespace maskmm::cuda::sm90 {

template <class Config>
struct Walker {
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
    const int begin = place.split * static_cast<int>(params.schedule.blocks_per_split);
    end_ = min(begin + static_cast<int>(params.schedule.blocks_per_split), static_cast<int>(params.k_blocks));
    base_ = begin / 32 * 32;
    seen_ = 0;
    ahead_ = read(base_);
    if constexpr (Config::kSkip == Skip::pairs) start_pairs(params, place, inside, element);
    take_word(~0u << (begin - base_));
  }

  /// Pairs that were live somewhere in the tile, once it is walked; `columns` are those that lie in the matrix.
  __device__ unsigned seen(unsigned columns) const {
    static_assert(Config::kFinish == Finish::dot);
    if constexpr (Config::kSkip == Skip::pairs) return uniform(seen_);
    return pairs_of((__ballot_sync(0xffffffffu, seen_ != 0) & 0xffff) | columns << 16);
  }

  /// To the next live block; false where there is none.
  __device__ bool next() {
    while (left_ == 0) {
      if (base_ + 32 >= end_) return false;
      base_ += 32;
      take_word(~0u);
    }
    take_block();
    return true;
  }

  /// Passes over up to `count` live blocks, without a look at which of their rows are live; returns how many. It stays
  /// within a word, so that the block where it stops is live too.
  __device__ int skip(int count) {
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
    if constexpr (Config::kSkip == Skip::pairs) {
      live = __shfl_sync(0xffffffffu, here_, bit);
    } else {
      live = __ballot_sync(0xffffffffu, word_ >> bit & 1) & 0xffff;
    }
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
    unsigned columns = 0;
    if (lane < Config::kRowBlocks && inside) {
      const BitRows& bits = params.live_out;
      const int first = place.column >> params.block_n;
      unsigned kept = ~0u;  // of 32 columns of mask_out from the first on
      if (bits.words != nullptr) {
        const auto* words = reinterpret_cast<const unsigned*>(bits.words + place.batch * bits.words_per_batch +
                                                              (row >> params.block_m) * bits.words_per_row);
        const int word = first / 32;
        kept = __funnelshift_r(words[word], words[min(word + 1, 2 * static_cast<int>(bits.words_per_row) - 1)], first);
      }
#pragma unroll
      for (int c = 0; c < kLineColumns; ++c) {
        const int column = place.column + c * Config::kBlock;
        if (column < params.n) columns |= (kept >> ((column >> params.block_n) - first) & 1) << c;
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
    const int lane = threadIdx.x % 32;
    if (end_ - base_ < 32) mask &= (1u << (end_ > base_ ? end_ - base_ : 0)) - 1;
    if constexpr (Config::kSkip == Skip::pairs) {
      unsigned lines = 0;
#pragma unroll
      for (int r = 0; r < Config::kRowBlocks; ++r) lines |= (__shfl_sync(0xffffffffu, word_, r) >> lane & 1) << r;
#pragma unroll
      for (int c = 0; c < kLineColumns; ++c) {
        lines |= (__shfl_sync(0xffffffffu, word_, 16 + c) >> lane & 1) << (16 + c);
      }
      if (!(mask >> lane & 1)) lines = 0;
      if constexpr (kPairs32<Config>) {
        here_ = pairs_32_of(lines);
      } else {
        here_ = allowed_ & pairs_of(lines);
      }
      left_ = __ballot_sync(0xffffffffu, here_ != 0);
      if constexpr (Config::kFinish == Finish::dot) seen_ |= here_;
    } else {
      left_ = uniform(lane < 16 ? word_ : 0) & mask;
      if constexpr (Config::kFinish == Finish::dot) seen_ |= left_ & word_;
    }
  }

  static constexpr int kLineColumns = Config::kColumns / Config::kBlock;

  const unsigned* words_;  // of this lane's line; null: absent_ stands for every word
  unsigned absent_, word_, ahead_;
  unsigned left_;  // live blocks of the tile that are still to come in this word
  int base_, end_;
  unsigned allowed_;        // pairs of blocks of 32: as in Pairs32, of the left 32 columns of each group
  unsigned allowed_right_;  // of the right ones
  unsigned here_;           // pairs that are live at this lane's block of the word
  unsigned seen_;           // of a dot: this lane's live blocks so far, or pairs at its block of any word
};

}  // namespace maskmm::cuda::sm90
