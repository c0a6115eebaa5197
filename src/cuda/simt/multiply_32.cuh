// float32 by fused multiply-adds on the ordinary cores: products keep all their bits, Inf and the largest floats too.
//
// A warp has 32 x 64 of the result, a thread 8 x 8 of it. Lanes are 4 down by 8 across, arranged so that neighbouring
// lanes ask for the same 16 bytes, which lets one wide read serve the warp. Four elements of k are multiplied at a
// time: an operand that lies k-major is read four k of a line at once, one that lies line-major four lines of a k.
#pragma once

#include "cuda/kernel.cuh"
#include "cuda/scale.cuh"

namespace maskmm::cuda::simt {

template <Layout kLayoutA, Layout kLayoutB, class Shape_, Masks kMasks_>
struct Multiply32 {
  using Element = float;
  using Shape = Shape_;
  using Accumulator = float;
  static constexpr Masks kMasks = kMasks_;
  static constexpr int kI = Shape::kWarpRows, kJ = Shape::kWarpColumns;
  static_assert(kI == 2 && kJ == 4, "a warp has 32 x 64 of the result");
  static constexpr unsigned kFullSlice = 0xff;
  using Sums = float[8][8];

  __device__ Multiply32(const MultiplyParams&, int warp_row, int warp_column)
      : warp_row_(warp_row),
        warp_column_(warp_column),
        down_((threadIdx.x & 1) | (threadIdx.x >> 3 & 2)),
        across_(threadIdx.x >> 1 & 7) {}

  __device__ void clear() {
    clear(sums_);
    if constexpr (kMasks == Masks::scaling) clear(block_sums_);
  }

  __device__ void part(const MultiplyParams& params, const PartView& part) {
    if constexpr (kMasks == Masks::choosing) {
      multiply(part, sums_);
    } else {
      multiply(part, block_sums_);
      flush(params, part);
    }
  }

  __device__ void store(const MultiplyParams& params, const Tile& tile, unsigned live) const {
    const Epilogue<float, float> epilogue(params, tile);
#pragma unroll
    for (int r = 0; r < 8; ++r) {
#pragma unroll
      for (int c = 0; c < 8; c += kColumnRun) {
        const int i = r / 4, j = column_square(c), column = warp_column_ + column_of(c);
        const float scale = epilogue.scale(warp_row_ + i * 16, warp_column_ + j * 16);
        float values[kColumnRun];
#pragma unroll
        for (int e = 0; e < kColumnRun; ++e) {
          values[e] = epilogue.finish(sums_[r][c + e], (live >> (i * kJ + j)) & 1, scale);
        }
        epilogue.write(warp_row_ + row_of(r), column, values);
      }
    }
  }

  // For DotEpilogue. Where b lies line-major, a lane holds sums of every other square only.
  static constexpr int kPerSquare = kLayoutB == Layout::k_major ? 8 : 16;
  __device__ int square_row(int i) const { return warp_row_ + i * 16; }
  __device__ int square_column(int j) const { return warp_column_ + j * 16; }
  __device__ float sum(int i, int j, int e) const { return sums_[4 * i + e % 4][thread_column(j, e)]; }
  __device__ int row(int i, int e) const { return warp_row_ + row_of(4 * i + e % 4); }
  __device__ int column(int j, int e) const {
    if (kLayoutB == Layout::line_major && j % 2 != across_ / 4) return kNowhere;
    return warp_column_ + column_of(thread_column(j, e));
  }

 private:
  static __device__ int thread_column(int j, int e) {
    return kLayoutB == Layout::k_major ? 2 * j + e / 4 : j / 2 * 4 + e / 4;
  }

  static constexpr int kColumnRun = kLayoutB == Layout::line_major ? 4 : 1;

  static __device__ void clear(Sums& sums) {
#pragma unroll
    for (auto& row : sums) {
#pragma unroll
      for (float& sum : row) sum = 0;
    }
  }

  /// The thread's row r of 8, within the warp; rows 0 to 3 lie in the upper square.
  __device__ int row_of(int r) const {
    return r / 4 * 16 + (kLayoutA == Layout::k_major ? r % 4 * 4 + down_ : down_ * 4 + r % 4);
  }
  /// The thread's column c of 8, within the warp.
  __device__ int column_of(int c) const {
    return kLayoutB == Layout::k_major ? c * 8 + across_ : c / 4 * 32 + across_ * 4 + c % 4;
  }
  /// The square that holds it.
  __device__ int column_square(int c) const { return kLayoutB == Layout::k_major ? c / 2 : c / 4 * 2 + across_ / 4; }

  static __device__ float4 load(std::uint32_t from) {
    float4 value;
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
                 : "r"(from)
                 : "memory");
    return value;
  }

  /// Elements k to k + 3 of the thread's eight lines, k = k8 + k4 with k8 a multiple of 8 and k4 known: 0 or 4. Within
  /// the lines of a warp the swizzle depends on the lane and on one bit of r only.
  __device__ void load_a(std::uint32_t operand, int k8, int k4, float (&a)[8][4]) const {
    const int k = k8 + k4;
    if constexpr (kLayoutA == Layout::k_major) {
      const std::uint32_t line = operand + (warp_row_ + down_) * kStageKBytes;
      const std::uint32_t places[2] = {line + ((k / 4 ^ down_) << 4), line + ((k / 4 ^ (down_ + 4)) << 4)};
#pragma unroll
      for (int r = 0; r < 8; ++r) {
        const float4 v = load(places[r % 2] + (r / 4 * 16 + r % 4 * 4) * kStageKBytes);
        a[r][0] = v.x, a[r][1] = v.y, a[r][2] = v.z, a[r][3] = v.w;
      }
    } else {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const std::uint32_t row = operand + (k + e) * (Shape::kRows * 4) + warp_row_ * 4;
#pragma unroll
        for (int r = 0; r < 8; r += 4) {
          const float4 v = load(row + ((r + down_ ^ swizzle<float>(k4 + e)) << 4));
          a[r][e] = v.x, a[r + 1][e] = v.y, a[r + 2][e] = v.z, a[r + 3][e] = v.w;
        }
      }
    }
  }

  __device__ void load_b(std::uint32_t operand, int k8, int k4, float (&b)[4][8]) const {
    const int k = k8 + k4;
    if constexpr (kLayoutB == Layout::k_major) {
      const std::uint32_t place =
          operand + (warp_column_ + across_) * kStageKBytes + ((k / 4 ^ swizzle<float>(across_)) << 4);
#pragma unroll
      for (int c = 0; c < 8; ++c) {
        const float4 v = load(place + c * 8 * kStageKBytes);
        b[0][c] = v.x, b[1][c] = v.y, b[2][c] = v.z, b[3][c] = v.w;
      }
    } else {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const std::uint32_t place =
            operand + (k + e) * (Shape::kColumns * 4) + warp_column_ * 4 + ((across_ ^ swizzle<float>(k4 + e)) << 4);
#pragma unroll
        for (int c = 0; c < 8; c += 4) {
          const float4 v = load(place + c * 32);
          b[e][c] = v.x, b[e][c + 1] = v.y, b[e][c + 2] = v.z, b[e][c + 3] = v.w;
        }
      }
    }
  }

  __device__ void multiply(const PartView& part, Sums& sums) const {
    if (part.pairs == kFullSlice) {
#pragma unroll 1
      for (int k = part.k_begin; k < part.k_end; k += 8) {
        multiply_4(part, k, 0, sums);
        multiply_4(part, k, 4, sums);
      }
    } else {
#pragma unroll 1
      for (int k = part.k_begin; k < part.k_end; k += 8) {
        multiply_some_4(part, k, 0, sums);
        multiply_some_4(part, k, 4, sums);
      }
    }
  }

  __device__ void multiply_4(const PartView& part, int k8, int k4, Sums& sums) const {
    float a[8][4], b[4][8];
    load_a(part.a, k8, k4, a);
    load_b(part.b, k8, k4, b);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
#pragma unroll
      for (int r = 0; r < 8; ++r) {
#pragma unroll
        for (int c = 0; c < 8; ++c) sums[r][c] = fmaf(a[r][e], b[e][c], sums[r][c]);
      }
    }
  }

  __device__ void multiply_some_4(const PartView& part, int k8, int k4, Sums& sums) const {
    float a[8][4], b[4][8];
    load_a(part.a, k8, k4, a);
    load_b(part.b, k8, k4, b);
    constexpr int kRun = kLayoutB == Layout::k_major ? 2 : 4;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int first = 0; first < 8; first += kRun) {
        if (!(part.pairs >> (i * kJ + column_square(first)) & 1)) continue;
#pragma unroll
        for (int e = 0; e < 4; ++e) {
#pragma unroll
          for (int r = 4 * i; r < 4 * i + 4; ++r) {
#pragma unroll
            for (int c = first; c < first + kRun; ++c) sums[r][c] = fmaf(a[r][e], b[e][c], sums[r][c]);
          }
        }
      }
    }
  }

  __device__ void flush(const MultiplyParams& params, const PartView& part) {
    constexpr int kRun = kLayoutB == Layout::k_major ? 2 : 4;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int first = 0; first < 8; first += kRun) {
        const int j = column_square(first);
        if (!(part.pairs >> (i * kJ + j) & 1)) continue;
        const PairScale<float> scale(params, part.scales, (warp_row_ + i * 16) >> params.block_m,
                                     (warp_column_ + j * 16) >> params.block_n);
#pragma unroll
        for (int r = 4 * i; r < 4 * i + 4; ++r) scale.template add<kRun>(&sums_[r][first], &block_sums_[r][first]);
      }
    }
  }

  int warp_row_, warp_column_, down_, across_;
  Sums sums_;
  std::conditional_t<kMasks == Masks::scaling, Sums, char> block_sums_;
};

}  // namespace maskmm::cuda::simt
