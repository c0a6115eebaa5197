// float16 and bfloat16 on tensor cores, m16n8k16, float32 sums. A square of 16 x 16 of the result by 16 of k is the
// least that is multiplied or skipped, so blocks from 16 up are exact.
#pragma once

#include "cuda/kernel.cuh"
#include "cuda/scale.cuh"
#include "cuda/sm80/ptx.cuh"

namespace maskmm::cuda::sm80 {

/// Where a warp's fragments of one operand lie in a stage. Only bits 4 to 6 of an address are swizzled, and stages are
/// aligned, so the exclusive or may come after the sum: all but `first` is the same in every lane.
struct FragmentPlace {
  std::uint32_t first;

  /// Bits of the lane's number say which half of the 16 lines and which half of the 16 k its row address is in.
  __device__ FragmentPlace(bool k_major, int kLines, int first_line, int line_half, int k_half) {
    const int rest = threadIdx.x % 8, turn = rest & (kLines < 64 ? kLines / 8 - 1 : 7);
    first = k_major ? (first_line + 8 * line_half + rest) * kStageKBytes + ((k_half ^ rest) << 4)
                    : (8 * k_half + rest) * kLines * 2 + ((first_line / 8 + line_half ^ turn) << 4);
  }
  /// Fragment i (16 lines) from element k of the stage on.
  template <Layout kLayout, int kLines>
  __device__ std::uint32_t at(std::uint32_t stage, int i, int k) const {
    return kLayout == Layout::k_major ? (stage + first ^ k * 2) + i * 16 * kStageKBytes
                                      : (stage + first ^ i * 32) + k * kLines * 2;
  }
};

template <class Element_, class Shape_, Masks kMasks_>
struct Multiply16 {
  using Element = Element_;
  using Shape = Shape_;
  using Accumulator = float;
  static constexpr Masks kMasks = kMasks_;
  static constexpr int kMultiplyRegisters = 192, kLoadRegisters = 120;
  static constexpr int kI = Shape::kWarpRows, kJ = Shape::kWarpColumns;
  static constexpr int kSlices = kStageKBytes / 2 / 16;
  static constexpr unsigned kFullSlice = (1u << (kI * kJ)) - 1;
  using Sums = float[kI][2 * kJ][4];

  static constexpr bool kIsSmall = Shape::kRows * Shape::kColumns <= 64 * 64;
  static constexpr int kBusyCost = kIsSmall ? 40 : 14, kIdleCost = kIsSmall ? 0 : 4;  // measured

  __device__ Multiply16(const MultiplyParams& params, int warp_row, int warp_column)
      : warp_row_(warp_row),
        warp_column_(warp_column),
        a_(params.a.k_major, Shape::kRows, warp_row, threadIdx.x / 8 % 2, threadIdx.x / 16 % 2),
        b_(params.b.k_major, Shape::kColumns, warp_column, threadIdx.x / 16 % 2, threadIdx.x / 8 % 2) {}

  __device__ void clear() {
    clear(sums_);
    if constexpr (kMasks == Masks::scaling) clear(block_sums_);
  }

  __device__ void part(const MultiplyParams& params, const PartView& part) {
    Sums& sums = kMasks == Masks::scaling ? block_sums() : sums_;
    if (params.a.k_major) {
      if (params.b.k_major) {
        slices<Layout::k_major, Layout::k_major>(part, sums);
      } else {
        slices<Layout::k_major, Layout::line_major>(part, sums);
      }
    } else if (params.b.k_major) {
      slices<Layout::line_major, Layout::k_major>(part, sums);
    } else {
      slices<Layout::line_major, Layout::line_major>(part, sums);
    }
    if constexpr (kMasks == Masks::scaling) flush(params, part);
  }

  __device__ void store(const MultiplyParams& params, const Tile& tile, unsigned live) const {
    const Epilogue<Element, float> epilogue(params, tile);
    if (epilogue.is_plain(warp_row_, warp_column_, kI * 16, kJ * 16)) {
      store_plain(params, epilogue.out);
      return;
    }
    const int row = warp_row_ + threadIdx.x % 32 / 4;
#pragma unroll
    for (int i = 0; i < kI; ++i) {
#pragma unroll
      for (int pair = 0; pair < kJ; pair += 2) {
        const int column = warp_column_ + pair * 16;
        const bool live0 = (live >> (i * kJ + pair)) & 1, live1 = (live >> (i * kJ + pair + 1)) & 1;
        const float scale0 = epilogue.scale(warp_row_ + i * 16, column);
        const float scale1 = epilogue.scale(warp_row_ + i * 16, column + 16);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float values[4][2];
#pragma unroll
          for (int f = 0; f < 4; ++f) {
#pragma unroll
            for (int c = 0; c < 2; ++c) {
              values[f][c] =
                  epilogue.finish(sums_[i][2 * pair + f][2 * half + c], f < 2 ? live0 : live1, f < 2 ? scale0 : scale1);
            }
          }
          store_32_columns(epilogue, row + i * 16 + half * 8, column, values);
        }
      }
    }
  }

  // For sums of which several warps have a part: element e of a thread lies kStep e further on.
  static constexpr int kSums = kI * 2 * kJ * 4;
  template <int kStep>
  __device__ void put(float* to) const {
#pragma unroll
    for (int e = 0; e < kSums; ++e) to[e * kStep] = sums_[e / (8 * kJ)][e / 4 % (2 * kJ)][e % 4];
  }
  template <int kStep>
  __device__ void add(const float* from) {
#pragma unroll
    for (int e = 0; e < kSums; ++e) sums_[e / (8 * kJ)][e / 4 % (2 * kJ)][e % 4] += from[e * kStep];
  }

  // For DotEpilogue.
  static constexpr int kPerSquare = 8;
  __device__ int square_row(int i) const { return warp_row_ + i * 16; }
  __device__ int square_column(int j) const { return warp_column_ + j * 16; }
  __device__ float sum(int i, int j, int e) const { return sums_[i][2 * j + e / 4][e % 4]; }
  __device__ int row(int i, int e) const { return square_row(i) + threadIdx.x % 32 / 4 + e / 2 % 2 * 8; }
  __device__ int column(int j, int e) const { return square_column(j) + threadIdx.x % 4 * 2 + e / 4 * 8 + e % 2; }

 private:
  static_assert(kJ % 2 == 0, "a row is stored 32 columns at a time");

  static __device__ void clear(Sums& sums) {
#pragma unroll
    for (auto& row : sums) {
#pragma unroll
      for (auto& fragment : row) {
#pragma unroll
        for (float& sum : fragment) sum = 0;
      }
    }
  }

  __device__ Sums& block_sums() {
    if constexpr (kMasks == Masks::scaling) {
      return block_sums_;
    } else {
      return sums_;
    }
  }

  template <Layout kLayoutA, Layout kLayoutB>
  __device__ void slices(const PartView& part, Sums& sums) const {
    if (part.pairs == kFullSlice && part.k_end - part.k_begin == 16 * kSlices) {
#pragma unroll
      for (int s = 0; s < kSlices; ++s) slice<kLayoutA, kLayoutB>(part, s * 16, sums);
    } else {
#pragma unroll 1
      for (int k = part.k_begin; k < part.k_end; k += 16) slice_of_some<kLayoutA, kLayoutB>(part, k, sums);
    }
  }

  template <Layout kLayoutA, Layout kLayoutB>
  __device__ void load_fragments(const PartView& part, int k, unsigned (&a)[kI][4], unsigned (&b)[kJ][4]) const {
#pragma unroll
    for (int i = 0; i < kI; ++i) ptx::load_matrices<kLayoutA>(a[i], a_.at<kLayoutA, Shape::kRows>(part.a, i, k));
#pragma unroll
    for (int j = 0; j < kJ; ++j) ptx::load_matrices<kLayoutB>(b[j], b_.at<kLayoutB, Shape::kColumns>(part.b, j, k));
  }

  /// 16 elements of k.
  template <Layout kLayoutA, Layout kLayoutB>
  __device__ void slice(const PartView& part, int k, Sums& sums) const {
    unsigned a[kI][4], b[kJ][4];
    load_fragments<kLayoutA, kLayoutB>(part, k, a, b);
#pragma unroll
    for (int i = 0; i < kI; ++i) {
#pragma unroll
      for (int j = 0; j < kJ; ++j) ptx::multiply_16x16x16<Element>(sums[i][2 * j], sums[i][2 * j + 1], a[i], b[j]);
    }
  }

  template <Layout kLayoutA, Layout kLayoutB>
  __device__ void slice_of_some(const PartView& part, int k, Sums& sums) const {
    unsigned a[kI][4], b[kJ][4];
    load_fragments<kLayoutA, kLayoutB>(part, k, a, b);
#pragma unroll
    for (int i = 0; i < kI; ++i) {
#pragma unroll
      for (int j = 0; j < kJ; ++j) {
        ptx::multiply_16x16x16<Element>(sums[i][2 * j], sums[i][2 * j + 1], a[i], b[j],
                                        part.pairs & 1u << (i * kJ + j));
      }
    }
  }

  __device__ void flush(const MultiplyParams& params, const PartView& part) {
#pragma unroll
    for (int i = 0; i < kI; ++i) {
#pragma unroll
      for (int j = 0; j < kJ; ++j) {
        if (!(part.pairs >> (i * kJ + j) & 1)) continue;
        const PairScale<float> scale(params, part.scales, (warp_row_ + i * 16) >> params.block_m,
                                     (warp_column_ + j * 16) >> params.block_n);
        scale.template add<4>(sums_[i][2 * j], block_sums_[i][2 * j]);
        scale.template add<4>(sums_[i][2 * j + 1], block_sums_[i][2 * j + 1]);
      }
    }
  }

  /// Four fragments of a row. The four lanes of a row change pairs of columns for 8 neighbouring columns each.
  __device__ void store_32_columns(const Epilogue<Element, float>& epilogue, int row, int column,
                                   const float (&values)[4][2]) const {
    const int t = threadIdx.x % 4;
    if (epilogue.is_split()) {
#pragma unroll
      for (int f = 0; f < 4; ++f) epilogue.write(row, column + f * 8 + t * 2, values[f]);
      return;
    }
    unsigned words[4];
    exchange_columns(values, words);
    Element elements[8];
    memcpy(elements, words, 16);
    if (!epilogue.has_row(row)) return;
    const int first = column + t * 8;
    write_row(epilogue.params.out,
              epilogue.out + row * epilogue.params.out.row_stride + first * epilogue.params.out.col_stride, elements,
              epilogue.columns_left(first));
  }

  /// The same where nothing can lie outside and nothing is scaled.
  __device__ void store_plain(const MultiplyParams& params, std::byte* out) const {
    const int t = threadIdx.x % 4;
    out += (warp_row_ + threadIdx.x % 32 / 4) * params.out.row_stride + (warp_column_ + t * 8) * int(sizeof(Element));
#pragma unroll
    for (int i = 0; i < kI; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int pair = 0; pair < kJ; pair += 2) {
          float values[4][2];
#pragma unroll
          for (int f = 0; f < 4; ++f) {
            values[f][0] = sums_[i][2 * pair + f][2 * half];
            values[f][1] = sums_[i][2 * pair + f][2 * half + 1];
          }
          unsigned words[4];
          exchange_columns(values, words);
          *reinterpret_cast<uint4*>(out + pair * 16 * int(sizeof(Element))) =
              make_uint4(words[0], words[1], words[2], words[3]);
        }
        out += 8 * params.out.row_stride;
      }
    }
  }

  /// Pairs of columns of four fragments become, in each lane, eight neighbouring columns of one of them.
  static __device__ void exchange_columns(const float (&values)[4][2], unsigned (&words)[4]) {
#pragma unroll
    for (int f = 0; f < 4; ++f) words[f] = pack(values[f][0], values[f][1]);
    exchange(words[0], words[1], 1);
    exchange(words[2], words[3], 1);
    exchange(words[0], words[2], 2);
    exchange(words[1], words[3], 2);
  }

  static __device__ unsigned pack(float low, float high) {
    unsigned word;
    if constexpr (std::is_same_v<Element, __half>) {
      const __half2 pair = __floats2half2_rn(low, high);
      memcpy(&word, &pair, 4);
    } else {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
      memcpy(&word, &pair, 4);
    }
    return word;
  }

  /// Lanes that differ in `bit`: the lower one's `high` changes places with the upper one's `low`.
  static __device__ void exchange(unsigned& low, unsigned& high, int bit) {
    const bool upper = threadIdx.x & bit;
    const unsigned received = __shfl_xor_sync(kAllLanes, upper ? low : high, bit);
    (upper ? low : high) = received;
  }

  int warp_row_, warp_column_;
  FragmentPlace a_, b_;
  Sums sums_;
  std::conditional_t<kMasks == Masks::scaling, Sums, char> block_sums_;
};

}  // namespace maskmm::cuda::sm80
