// float32 where "tf32" is allowed: tensor cores, m16n8k8. They take the upper 19 bits of an element and sum in float32.
// Fragments come by ldmatrix where both operands lie k-major. Else a lane takes elements 2 t and 2 t + 1 of eight k,
// which makes the reads of a line-major operand free of bank conflicts, and those of a k-major a too, whose rows then
// go to lanes in the order 0, 2, 4, 6, 1, 3, 5, 7.
#pragma once

#include "cuda/kernel.cuh"
#include "cuda/scale.cuh"
#include "cuda/sm80/ptx.cuh"

namespace maskmm::cuda::sm80 {

/// Where a lane's elements of one operand lie in a stage; t = lane % 4.
struct Tf32Place {
  std::uint32_t first;

  /// By ldmatrix: the half of 16 lines, and of 8 k, that this lane's address is in.
  static __device__ Tf32Place of_matrices(int first_line, int line_half, int k_half) {
    const int rest = threadIdx.x % 8;
    return {static_cast<std::uint32_t>((first_line + 8 * line_half + rest) * kStageKBytes + ((k_half ^ rest) << 4))};
  }
  /// Elements 2 t and 2 t + 1 of line `line` of each eight.
  static __device__ Tf32Place of_elements(bool k_major, int kLines, int first_line, int line) {
    const int t = threadIdx.x % 4;
    return {static_cast<std::uint32_t>(k_major ? (first_line + line) * kStageKBytes + ((t / 2 ^ line) << 4) + t % 2 * 8
                                               : 2 * t * kLines * 4 + ((first_line / 4 + line / 4 ^ 2 * t) << 4) +
                                                     line % 4 * 4)};
  }

  __device__ std::uint32_t k_major(std::uint32_t stage, int i, int half, int k) const {
    return (stage + first ^ k * 4) + (i * 16 + half * 8) * kStageKBytes;
  }
  template <int kLines>
  __device__ std::uint32_t line_major(std::uint32_t stage, int i, int half, int k, int e) const {
    return (stage + first ^ (i * 64 + half * 32 + e * 16)) + (k + e) * (kLines * 4);
  }
};

template <class Shape_, Masks kMasks_>
struct MultiplyTf32 {
  using Element = float;
  using Shape = Shape_;
  using Accumulator = float;
  static constexpr Masks kMasks = kMasks_;
  static constexpr int kMultiplyRegisters = 192, kLoadRegisters = 120;
  static constexpr int kI = Shape::kWarpRows, kJ = Shape::kWarpColumns;
  static constexpr unsigned kFullSlice = (1u << (kI * kJ)) - 1;
  using Sums = float[kI][2 * kJ][4];

  static constexpr bool kIsSmall = Shape::kRows * Shape::kColumns <= 64 * 64;
  static constexpr int kBusyCost = kIsSmall ? 40 : 14, kIdleCost = kIsSmall ? 0 : 4;  // those of 16-bit types

  __device__ MultiplyTf32(const MultiplyParams& params, int warp_row, int warp_column)
      : warp_row_(warp_row), warp_column_(warp_column) {
    const int lane = threadIdx.x % 32, g = lane / 4;
    const bool matrices = params.a.k_major && params.b.k_major;
    row_ = params.a.k_major && !params.b.k_major ? g % 4 * 2 + g / 4 : g;
    a_ = matrices ? Tf32Place::of_matrices(warp_row, lane / 8 % 2, lane / 16)
                  : Tf32Place::of_elements(params.a.k_major, Shape::kRows, warp_row, row_);
    b_ = matrices ? Tf32Place::of_matrices(warp_column, lane / 16, lane / 8 % 2)
                  : Tf32Place::of_elements(params.b.k_major, Shape::kColumns, warp_column, g);
  }

  __device__ void clear() {
    clear(sums_);
    if constexpr (kMasks == Masks::scaling) clear(block_sums_);
  }

  __device__ void part(const MultiplyParams& params, const PartView& part) {
    Sums& sums = block_sums();
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
    const Epilogue<float, float> epilogue(params, tile);
    const int row = warp_row_ + row_, column = warp_column_ + threadIdx.x % 4 * 2;
    if (epilogue.is_plain(warp_row_, warp_column_, kI * 16, kJ * 16)) {
      std::byte* out = epilogue.out + row * params.out.row_stride + column * 4;
#pragma unroll
      for (int i = 0; i < 2 * kI; ++i) {
#pragma unroll
        for (int f = 0; f < 2 * kJ; ++f) {
          const float* sums = &sums_[i / 2][f][i % 2 * 2];
          *reinterpret_cast<float2*>(out + f * 32) = make_float2(sums[0], sums[1]);
        }
        out += 8 * params.out.row_stride;
      }
      return;
    }
#pragma unroll
    for (int i = 0; i < kI; ++i) {
#pragma unroll
      for (int f = 0; f < 2 * kJ; ++f) {
        const bool pair_live = (live >> (i * kJ + f / 2)) & 1;
        const float scale = epilogue.scale(warp_row_ + i * 16, warp_column_ + f / 2 * 16);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const float* sums = &sums_[i][f][2 * half];
          const float values[2] = {epilogue.finish(sums[0], pair_live, scale),
                                   epilogue.finish(sums[1], pair_live, scale)};
          epilogue.write(row + i * 16 + half * 8, column + f * 8, values);
        }
      }
    }
  }

  // For DotEpilogue.
  static constexpr int kPerSquare = 8;
  __device__ int square_row(int i) const { return warp_row_ + i * 16; }
  __device__ int square_column(int j) const { return warp_column_ + j * 16; }
  __device__ float sum(int i, int j, int e) const { return sums_[i][2 * j + e / 4][e % 4]; }
  __device__ int row(int i, int e) const { return square_row(i) + row_ + e / 2 % 2 * 8; }
  __device__ int column(int j, int e) const { return square_column(j) + threadIdx.x % 4 * 2 + e / 4 * 8 + e % 2; }

 private:
  struct All {};  // pairs are live

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
    if (part.pairs == kFullSlice) {
#pragma unroll 1
      for (int k = part.k_begin; k < part.k_end; k += 8) slice<kLayoutA, kLayoutB>(part, k, sums, All());
    } else {
#pragma unroll 1
      for (int k = part.k_begin; k < part.k_end; k += 8) slice<kLayoutA, kLayoutB>(part, k, sums, part.pairs);
    }
  }

  /// Eight elements of k. Fragment i, in order: (line half 0, k half 0), (1, 0), (0, 1), (1, 1) of a; of b the inner
  /// two change places.
  template <Layout kLayoutA, Layout kLayoutB, class Pairs>
  __device__ void slice(const PartView& part, int k, Sums& sums, Pairs pairs) const {
    constexpr bool kMatrices = kLayoutA == Layout::k_major && kLayoutB == Layout::k_major;
    unsigned a[kI][4];
#pragma unroll
    for (int i = 0; i < kI; ++i) {
      if constexpr (kMatrices) {
        ptx::load_matrices<Layout::k_major>(a[i], a_.k_major(part.a, i, 0, k));
      } else {
#pragma unroll
        for (int half = 0; half < 2; ++half)
          load<kLayoutA, Shape::kRows>(a_, part.a, i, half, k, a[i][half], a[i][half + 2]);
      }
    }
#pragma unroll
    for (int j = 0; j < kJ; ++j) {
      unsigned b[4];
      if constexpr (kMatrices) {
        ptx::load_matrices<Layout::k_major>(b, b_.k_major(part.b, j, 0, k));
      } else {
#pragma unroll
        for (int half = 0; half < 2; ++half)
          load<kLayoutB, Shape::kColumns>(b_, part.b, j, half, k, b[2 * half], b[2 * half + 1]);
      }
#pragma unroll
      for (int i = 0; i < kI; ++i) multiply(sums[i][2 * j], sums[i][2 * j + 1], a[i], b, pairs, i * kJ + j);
    }
  }

  template <Layout kLayout, int kLines>
  static __device__ void load(const Tf32Place& place, std::uint32_t stage, int i, int half, int k, unsigned& even,
                              unsigned& odd) {
    if constexpr (kLayout == Layout::k_major) {
      const uint2 both = ptx::load_shared_8(place.k_major(stage, i, half, k));
      even = both.x, odd = both.y;
    } else {
      even = ptx::load_shared_4(place.line_major<kLines>(stage, i, half, k, 0));
      odd = ptx::load_shared_4(place.line_major<kLines>(stage, i, half, k, 1));
    }
  }

  static __device__ void multiply(float (&left)[4], float (&right)[4], const unsigned (&a)[4], const unsigned (&b)[4],
                                  All, int) {
    ptx::multiply_16x16x8(left, right, a, b);
  }
  static __device__ void multiply(float (&left)[4], float (&right)[4], const unsigned (&a)[4], const unsigned (&b)[4],
                                  unsigned pairs, int pair) {
    ptx::multiply_16x16x8(left, right, a, b, pairs & 1u << pair);
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

  int warp_row_, warp_column_, row_;  // row_: of each eight
  Tf32Place a_, b_;
  Sums sums_;
  std::conditional_t<kMasks == Masks::scaling, Sums, char> block_sums_;
};

}  // namespace maskmm::cuda::sm80
