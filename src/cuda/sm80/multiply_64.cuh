// float64 on tensor cores: m16n8k8 where the architecture has it, m8n8k4 otherwise.
#pragma once

#include "cuda/kernel.cuh"
#include "cuda/scale.cuh"
#include "cuda/sm80/ptx.cuh"

namespace maskmm::cuda::sm80 {

/// Where a lane's elements of one operand lie in a stage: those of line group n (8 lines) and k group q (4 of k) are at
/// lines(n) + ks(q). With g = lane / 4 and t = lane % 4, a lane has line g of each group and element t of each.
struct ElementPlace {
  unsigned line, k;
  unsigned odd_xor, odd_step, pair_step, k_xor, k_step;

  __device__ ElementPlace(bool k_major, int kLines, int first_line) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    if (k_major) {
      line = (first_line + g) * kStageKBytes;
      k = ((t >> 1 ^ swizzle<double>(g)) << 4) + (t & 1) * 8;
      odd_xor = 0, odd_step = 8 * kStageKBytes, pair_step = 16 * kStageKBytes, k_xor = 32, k_step = 0;
    } else {
      line = first_line * 8 + ((g >> 1 ^ swizzle<double>(t)) << 4) + (g & 1) * 8;
      k = t * kLines * 8;
      odd_xor = 64, odd_step = 0, pair_step = 128, k_xor = 0, k_step = 4 * kLines * 8;
    }
  }
  __device__ unsigned lines(int n) const { return (line ^ (n % 2 * odd_xor)) + n % 2 * odd_step + n / 2 * pair_step; }
  __device__ unsigned ks(int q) const { return (k ^ (q * k_xor)) + q * k_step; }
};

template <class Shape_, Masks kMasks_>
struct Multiply64 {
  using Element = double;
  using Shape = Shape_;
  using Accumulator = double;
  static constexpr Masks kMasks = kMasks_;
  static constexpr int kMultiplyRegisters = 192, kLoadRegisters = 120;
  static constexpr int kI = Shape::kWarpRows, kJ = Shape::kWarpColumns;
  using Sums = double[kI][2 * kJ][4];

  static constexpr bool kIsSmall = Shape::kRows * Shape::kColumns <= 64 * 64;
  static constexpr int kBusyCost = kIsSmall ? 23 : 14, kIdleCost = kIsSmall ? 0 : 4;  // measured

  __device__ Multiply64(const MultiplyParams& params, int warp_row, int warp_column)
      : warp_row_(warp_row),
        warp_column_(warp_column),
        a_(params.a.k_major, Shape::kRows, warp_row),
        b_(params.b.k_major, Shape::kColumns, warp_column) {}

  __device__ void clear() {
    clear(sums_);
    if constexpr (kMasks == Masks::scaling) clear(block_sums_);
  }

  /// A stage is 16 elements of k, so it has one part.
  __device__ void part(const MultiplyParams& params, const PartView& part) {
    if constexpr (kMasks == Masks::choosing) {
      multiply(part, sums_);
    } else {
      multiply(part, block_sums_);
      flush(params, part);
    }
  }

  __device__ void store(const MultiplyParams& params, const Tile& tile, unsigned live) const {
    const Epilogue<double, double> epilogue(params, tile);
    const int row = warp_row_ + threadIdx.x % 32 / 4, column = warp_column_ + threadIdx.x % 4 * 2;
    if (epilogue.is_plain(warp_row_, warp_column_, kI * 16, kJ * 16)) {
      std::byte* out = epilogue.out + row * params.out.row_stride + column * 8;
#pragma unroll
      for (int i = 0; i < 2 * kI; ++i) {
#pragma unroll
        for (int f = 0; f < 2 * kJ; ++f) {
          const double* sums = &sums_[i / 2][f][i % 2 * 2];
          *reinterpret_cast<double2*>(out + f * 64) = make_double2(sums[0], sums[1]);
        }
        out += 8 * params.out.row_stride;
      }
      return;
    }
#pragma unroll
    for (int i = 0; i < kI; ++i) {
#pragma unroll
      for (int j = 0; j < kJ; ++j) {
        const bool pair_live = (live >> (i * kJ + j)) & 1;
        const double scale = epilogue.scale(warp_row_ + i * 16, warp_column_ + j * 16);
#pragma unroll
        for (int f = 0; f < 2; ++f) {
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const double* sums = &sums_[i][2 * j + f][2 * half];
            const double values[2] = {epilogue.finish(sums[0], pair_live, scale),
                                      epilogue.finish(sums[1], pair_live, scale)};
            epilogue.write(row + i * 16 + half * 8, column + j * 16 + f * 8, values);
          }
        }
      }
    }
  }

  // For DotEpilogue.
  static constexpr int kPerSquare = 8;
  __device__ int square_row(int i) const { return warp_row_ + i * 16; }
  __device__ int square_column(int j) const { return warp_column_ + j * 16; }
  __device__ double sum(int i, int j, int e) const { return sums_[i][2 * j + e / 4][e % 4]; }
  __device__ int row(int i, int e) const { return square_row(i) + threadIdx.x % 32 / 4 + e / 2 % 2 * 8; }
  __device__ int column(int j, int e) const { return square_column(j) + threadIdx.x % 4 * 2 + e / 4 * 8 + e % 2; }

 private:
  static __device__ void clear(Sums& sums) {
#pragma unroll
    for (auto& row : sums) {
#pragma unroll
      for (auto& fragment : row) {
#pragma unroll
        for (double& sum : fragment) sum = 0;
      }
    }
  }

  __device__ void multiply(const PartView& part, Sums& sums) const {
#pragma unroll
    for (int q = 0; q < 4; q += 2) {
      double a[kI][4];
#pragma unroll
      for (int i = 0; i < kI; ++i) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          a[i][e] = ptx::load_shared_double(part.a + a_.lines(2 * i + e % 2) + a_.ks(q + e / 2));
        }
      }
#pragma unroll
      for (int f = 0; f < 2 * kJ; ++f) {
        double b[2];
#pragma unroll
        for (int e = 0; e < 2; ++e) b[e] = ptx::load_shared_double(part.b + b_.lines(f) + b_.ks(q + e));
#pragma unroll
        for (int i = 0; i < kI; ++i) ptx::multiply_16x8x8(sums[i][f], a[i], b, part.pairs & 1u << (i * kJ + f / 2));
      }
    }
  }

  __device__ void flush(const MultiplyParams& params, const PartView& part) {
#pragma unroll
    for (int i = 0; i < kI; ++i) {
#pragma unroll
      for (int j = 0; j < kJ; ++j) {
        if (!(part.pairs >> (i * kJ + j) & 1)) continue;
        const PairScale<double> scale(params, part.scales, (warp_row_ + i * 16) >> params.block_m,
                                      (warp_column_ + j * 16) >> params.block_n);
        scale.template add<4>(sums_[i][2 * j], block_sums_[i][2 * j]);
        scale.template add<4>(sums_[i][2 * j + 1], block_sums_[i][2 * j + 1]);
      }
    }
  }

  int warp_row_, warp_column_;
  ElementPlace a_, b_;
  Sums sums_;
  std::conditional_t<kMasks == Masks::scaling, Sums, char> block_sums_;
};

}  // namespace maskmm::cuda::sm80
