// The multiplying warpgroups for blocks of 32 under two or three masks: as in multiply_32.cuh, but each pair of a row
// and a column of blocks is live or not. An instruction's 64 columns are two blocks; where one of them is dead at a k
// block and the other is not, zeros stand for it in the registers of its two warps. A product of zero with an Inf or a
// NaN of a is a NaN, so each NaN of a tile is worked out again as it is stored, from its live triples alone.
#pragma once

#include "cuda/sm90/kept.cuh"
#include "cuda/sm90/multiply_32.cuh"

namespace maskmm::cuda::sm90 {

/// The live k blocks of an element of the result.
struct LiveK {
  const std::uint64_t *lhs, *rhs;

  __device__ LiveK(const MultiplyParams& p, int batch, int row, int column)
      : lhs(words(p.live_lhs, batch, row >> p.block_m)), rhs(words(p.live_rhs, batch, column >> p.block_n)) {}
  __device__ bool at(int block) const {
    return (lhs == nullptr || lhs[block / 64] >> (block % 64) & 1) &&
           (rhs == nullptr || rhs[block / 64] >> (block % 64) & 1);
  }
  __device__ bool any(const MultiplyParams& p) const {
#pragma unroll 1
    for (int block = 0; block < p.k_blocks; ++block) {
      if (at(block)) return true;
    }
    return false;
  }

 private:
  static __device__ const std::uint64_t* words(const BitRows& bits, int batch, int block) {
    return bits.words == nullptr ? nullptr : bits.words + batch * bits.words_per_batch + block * bits.words_per_row;
  }
};

/// One element of the result from its live triples, product by product.
template <class Element>
__device__ inline float slow_sum(const MultiplyParams& p, int batch, int row, int column) {
  const LiveK live(p, batch, row, column);
  const std::byte* a = p.a.data + batch_offset(p.batch, p.a.batch, batch) + row * p.a.line_stride;
  const std::byte* b = p.b.data + batch_offset(p.batch, p.b.batch, batch) + column * p.b.line_stride;
  float sum = 0;
#pragma unroll 1
  for (int block = 0; block < p.k_blocks; ++block) {
    if (!live.at(block)) continue;
    const std::int64_t first = std::int64_t{block} << p.block_k;
    const std::int64_t end = smaller(p.k, first + (std::int64_t{1} << p.block_k));
#pragma unroll 1
    for (std::int64_t k = first; k < end; ++k) {
      sum = fmaf(static_cast<float>(*reinterpret_cast<const Element*>(a + k * p.a.k_stride)),
                 static_cast<float>(*reinterpret_cast<const Element*>(b + k * p.b.k_stride)), sum);
    }
    if (isnan(sum)) break;
  }
  return sum;
}

template <class Config>
struct PairMultiplier32 : Multiplier32<Config> {
  using Base = Multiplier32<Config>;
  using Element = typename Config::Element;
  using Base::group, Base::params, Base::kAll;

  __device__ void run() const {
    const Ring<Config> ring{uniform(ptx::kept(Base::ring.start))};
    const std::uint32_t fragment = ptx::kept(Base::fragment_offset());
    const int column = Pairs32::kFirstColumn + 2 * group + static_cast<int>(threadIdx.x) % 128 / 64;  // this warp's bit
    RingPosition<Config> position;
    float sums[128];  // of which 96 are used
    unsigned first[8], second[8];
    for (;;) {
#pragma unroll
      for (int i = 0; i < 96; ++i) sums[i] = 0;
      int held = -1;
      uint4 state;
      unsigned live, more;  // of the stage's two slices
      do {
        ptx::barrier_wait(ring.full(position.slot), position.parity);
        state = ptx::load_shared(ring.state(position.slot));
        live = uniform(state.x), more = uniform(ptx::load_shared_word(ring.second(position.slot)));
        const std::uint32_t slice = ring.slice(position.slot, 0);
        const int slot = position.slot;
        position.next();
        const unsigned a = uniform(Base::A::low(slice));
        const unsigned rows = live >> (group * Pairs32::kRows) & kAll, next = more >> (group * Pairs32::kRows) & kAll;
        if (rows != 0) {  // nothing unfinished reads `first`
          load(first, slice + fragment, live >> column & 1);
          Base::products(sums, first, a, rows);
          ptx::products_wait<1>();
        } else {
          ptx::products_wait<0>();
        }
        if (held >= 0) ring.release(held);
        held = slot;
        if (next != 0) {
          load(second, slice + Ring<Config>::kSliceBytes + fragment, more >> column & 1);
          Base::products(sums, second, a + Ring<Config>::kSliceBytes / 16, next);
          ptx::products_wait<1>();
        } else {
          ptx::products_wait<0>();
          ring.release(held);
          held = -1;
        }
      } while (!(live & (StageState::kLast | StageState::kExit)));
      ptx::products_wait<0>();
#pragma unroll
      for (int i = 0; i < 96; ++i) asm volatile("" : "+f"(sums[i])::"memory");
      if (held >= 0) ring.release(held);
      if (live & StageState::kExit) break;
      finish(sums, state, more >> Pairs32::kOwned & kAll);
    }
  }

 private:
  static __device__ void load(unsigned (&fragments)[8], std::uint32_t from, unsigned live) {
    Base::load_fragments(fragments, from);
#pragma unroll
    for (unsigned& fragment : fragments) fragment = live != 0 ? fragment : 0;
  }

  __device__ void finish(float (&sums)[128], uint4 state, unsigned owned) const {
    const MultiplyParams& p = params.multiply;
    const int row = static_cast<int>(state.y), batch = static_cast<int>(state.w);
    const int column = static_cast<int>(state.z) + group * 64 + static_cast<int>(threadIdx.x) % 128 / 32 * 16;
    if (p.live_out.words != nullptr) keep(sums, batch, row, column);
    bool nan = false;
#pragma unroll
    for (int i = 0; i < 96; ++i) nan = nan || isnan(sums[i]);
    this->store(sums, state, owned);
    const bool halves = p.live_rhs.words != nullptr && kHalf >> p.block_n != 0;
    if ((halves || p.scale_out.values != nullptr) && __any_sync(0xffffffffu, nan)) mend(batch, row, column, owned);
  }

  /// mask_out's values; what it drops becomes zero.
  __device__ void keep(float (&sums)[128], int batch, int row, int column) const {
    const MultiplyParams& p = params.multiply;
    const auto* scales = static_cast<const float*>(p.scale_out.values);
    if (scales != nullptr) scales += batch * p.scale_out.values_per_batch + (column >> p.block_n);
#pragma unroll
    for (int r = 0; r < Config::kRowBlocks; ++r) {
      const int first = row + r * Config::kBlock;
      const bool kept = first < p.m && column < p.n && keeps(p, batch, first, column);
      const float value = kept && scales != nullptr ? scales[(first >> p.block_m) * p.scale_out.values_per_row] : 1.f;
#pragma unroll
      for (int i = 16 * r; i < 16 * r + 16; ++i) sums[i] = kept ? sums[i] * value + 0.f : 0.f;  // never -0
    }
  }

  /// Each NaN among the sixteen columns that this warp stored, anew.
  __device__ void mend(int batch, int row, int column, unsigned owned) const {
    const MultiplyParams& p = params.multiply;
    const auto* scales = static_cast<const float*>(p.scale_out.values);
    __threadfence_block();
    __syncwarp();
    const int lane = threadIdx.x % 32, j = column + lane % 16;
    std::byte* out = p.out.data + batch_offset(p.batch, p.out.batch, batch);
#pragma unroll 1
    for (int r = lane / 16; r < Config::kRows; r += 2) {
      const int i = row + r;
      if (i >= p.m || j >= p.n || !(owned >> (r / Config::kBlock) & 1)) continue;
      std::byte* at = out + i * p.out.row_stride + j * p.out.col_stride;
      Element element;
      memcpy(&element, at, sizeof element);
      if (!isnan(static_cast<float>(element))) continue;
      float sum = slow_sum<Element>(p, batch, i, j);
      if (scales != nullptr) {
        const float scale = scales[batch * p.scale_out.values_per_batch +
                                   (i >> p.block_m) * p.scale_out.values_per_row + (j >> p.block_n)];
        sum = LiveK(p, batch, i, j).any(p) ? sum * scale : 0;  // +0 also where mask_out is infinite
      }
      convert(sum, element);
      std::uint16_t bits;
      memcpy(&bits, &element, sizeof bits);
      bits = static_cast<std::uint16_t>(ptx::kept(bits));  // or ptxas 13.0 stores the number's integer part as a byte
      memcpy(at, &bits, sizeof bits);
    }
  }
};

}  // namespace maskmm::cuda::sm90
