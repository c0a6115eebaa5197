// float32 by fused multiply-adds on the ordinary cores: products keep all their bits, Inf and the largest floats too.
//
// A warp has 64 or 32 rows and 32 columns of the result, a thread an eighth of the rows and 8 of the columns. Lanes are
// 8 down by 4 across. Four elements of k are multiplied at a time: an operand that lies k-major is read four k of a
// line at once, one that lies line-major two rows or four columns of a k. Every read of a warp is free of bank
// conflicts, and a square of 16 x 16 belongs to the same registers in every lane.
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
  static_assert((kI == 2 || kI == 4) && kJ == 2, "a warp has 32 or 64 rows and 32 columns");
  static constexpr int kMultiplyRegisters = 192, kLoadRegisters = 120;
  static constexpr unsigned kFullSlice = (1u << (kI * kJ)) - 1;
  static constexpr int kRows = 2 * kI, kColumns = 4 * kJ;  // of a thread
  static constexpr int kStep = 4;                          // elements of k that are held at a time
  using Sums = float[kRows][kColumns];

  static constexpr bool kIsSmall = Shape::kRows * Shape::kColumns <= 64 * 64;
  static constexpr int kBusyCost = kIsSmall ? 26 : 14, kIdleCost = kIsSmall ? 0 : 4;  // measured

  /// Lanes i and i ^ 1 have the same rows, i and i ^ 2 the same columns: a read of 16 bytes a lane then takes 2 cycles,
  /// else 4.
  __device__ Multiply32(const MultiplyParams&, int warp_row, int warp_column)
      : warp_row_(warp_row),
        warp_column_(warp_column),
        down_((threadIdx.x >> 1 & 1) | (threadIdx.x >> 2 & 6)),
        across_((threadIdx.x & 1) | (threadIdx.x >> 1 & 2)) {
    if (threadIdx.x % 32 == 0) *zeros() = make_float4(0, 0, 0, 0);
    __syncwarp();
  }

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
    if (epilogue.is_plain(warp_row_, warp_column_, kI * 16, kJ * 16)) {
      store_plain(params, epilogue.out);
      return;
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int c = 0; c < kColumns; c += kColumnRun) {
        const int i = r / 2, j = c / 4;
        const float scale = epilogue.scale(warp_row_ + i * 16, warp_column_ + j * 16);
        float values[kColumnRun];
#pragma unroll
        for (int e = 0; e < kColumnRun; ++e) {
          values[e] = epilogue.finish(sums_[r][c + e], (live >> (i * kJ + j)) & 1, scale);
        }
        epilogue.write(warp_row_ + row_of(r), warp_column_ + column_of(c), values);
      }
    }
  }

  // For DotEpilogue.
  static constexpr int kPerSquare = 8;
  __device__ int square_row(int i) const { return warp_row_ + i * 16; }
  __device__ int square_column(int j) const { return warp_column_ + j * 16; }
  __device__ float sum(int i, int j, int e) const { return sums_[2 * i + e / 4][4 * j + e % 4]; }
  __device__ int row(int i, int e) const { return warp_row_ + row_of(2 * i + e / 4); }
  __device__ int column(int j, int e) const { return warp_column_ + column_of(4 * j + e % 4); }

 private:
  static constexpr int kColumnRun = kLayoutB == Layout::line_major ? 4 : 1;

  /// 16 bytes of zeros in shared memory, for each warp.
  static __device__ float4* zeros() {
    __shared__ float4 of_warps[Shape::kMultiplyWarps];
    return &of_warps[threadIdx.x / 32];
  }

  /// Zeros, by vector loads that put the sums of neighbouring columns into registers in exchanged order: a sum and the
  /// b of its column then lie in different register banks. Where they do not, a multiply-add takes two cycles.
  static __device__ void clear(Sums& sums) {
    const std::uint32_t from = ptx::shared_address(zeros());
#pragma unroll
    for (auto& row : sums) {
#pragma unroll
      for (int c = 0; c < kColumns; c += 4) {
        const float4 v = load_zeros(from);
        row[c + 1] = v.x, row[c] = v.y, row[c + 3] = v.z, row[c + 2] = v.w;
      }
    }
  }

  /// As load_4, but one load does not serve for all.
  static __device__ float4 load_zeros(std::uint32_t from) {
    float4 value;
    asm volatile("ld.volatile.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
                 : "r"(from)
                 : "memory");
    return value;
  }

  /// The sum, in a register that vector stores may choose freely.
  static __device__ float detached(float sum, unsigned keep) {
    float result;
    asm volatile("prmt.b32 %0, %1, %1, %2;" : "=f"(result) : "f"(sum), "r"(keep));
    return result;
  }

  /// The thread's row r of 8, within the warp: two in each square.
  __device__ int row_of(int r) const {
    return kLayoutA == Layout::k_major ? r * 8 + down_ : r / 2 * 16 + down_ * 2 + r % 2;
  }
  /// The thread's column c, within the warp: four in each square.
  __device__ int column_of(int c) const {
    return kLayoutB == Layout::k_major ? c * 4 + across_ : c / 4 * 16 + across_ * 4 + c % 4;
  }

  /// Where nothing can lie outside and nothing is scaled: sums without a live triple are still +0.
  __device__ void store_plain(const MultiplyParams& params, std::byte* out) const {
    const unsigned keep = 0x3210u + (params.stages < 0);  // the compiler must not know
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      std::byte* row = out + (warp_row_ + row_of(r)) * params.out.row_stride + warp_column_ * 4;
#pragma unroll
      for (int c = 0; c < kColumns; c += kColumnRun) {
        if constexpr (kColumnRun == 4) {
          *reinterpret_cast<float4*>(row + column_of(c) * 4) =
              make_float4(detached(sums_[r][c], keep), detached(sums_[r][c + 1], keep), detached(sums_[r][c + 2], keep),
                          detached(sums_[r][c + 3], keep));
        } else {
          *reinterpret_cast<float*>(row + column_of(c) * 4) = sums_[r][c];
        }
      }
    }
  }

  static __device__ float4 load_4(std::uint32_t from) {
    float4 value;
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
                 : "r"(from)
                 : "memory");
    return value;
  }
  static __device__ float2 load_2(std::uint32_t from) {
    float2 value;
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(value.x), "=f"(value.y) : "r"(from) : "memory");
    return value;
  }

  /// The first kStep elements of a line at `from`.
  static __device__ void load_k(std::uint32_t from, float (&to)[kStep]) {
    const float4 v = load_4(from);
    to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
  }

  /// kStep elements of k of the thread's rows, from k8 + rest on; k8 is a multiple of 8, `rest` is known.
  __device__ void load_a(std::uint32_t operand, int k8, int rest, float (&a)[kStep][kRows]) const {
    if constexpr (kLayoutA == Layout::k_major) {
      const std::uint32_t place = operand + (warp_row_ + down_) * kStageKBytes + (((k8 + rest) / 4 ^ down_) << 4);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        float v[kStep];
        load_k(place + r * 8 * kStageKBytes, v);
#pragma unroll
        for (int e = 0; e < kStep; ++e) a[e][r] = v[e];
      }
    } else {
#pragma unroll
      for (int e = 0; e < kStep; ++e) load_a_of(operand, k8, rest + e, a[e]);
    }
  }

  /// One k of an a that lies line-major.
  __device__ void load_a_of(std::uint32_t operand, int k8, int rest, float (&a)[kRows]) const {
    const std::uint32_t row = operand + (k8 + rest) * (Shape::kRows * 4) + warp_row_ * 4 + (down_ & 1) * 8;
    const int half = down_ / 2 ^ (swizzle<float>(rest) & 3), high = swizzle<float>(rest) & 4;
#pragma unroll
    for (int r = 0; r < kRows; r += 2) {
      const float2 v = load_2(row + ((half + (r * 2 ^ high)) << 4));
      a[r] = v.x, a[r + 1] = v.y;
    }
  }

  /// One k of kCount columns, from column `first` of the thread on, of a b that lies line-major.
  template <int kCount>
  __device__ void load_b_of(std::uint32_t operand, int k8, int rest, int first, float (&b)[kCount]) const {
    const std::uint32_t row = operand + (k8 + rest) * (Shape::kColumns * 4) + warp_column_ * 4;
    const int low = across_ ^ (swizzle<float>(rest) & 3), high = swizzle<float>(rest) & 4;
#pragma unroll
    for (int c = 0; c < kCount; c += 4) {
      const float4 v = load_4(row + ((low + (first + c ^ high)) << 4));
      b[c] = v.x, b[c + 1] = v.y, b[c + 2] = v.z, b[c + 3] = v.w;
    }
  }

  /// kStep of k of eight columns, from column `first` of the thread on.
  __device__ void load_b(std::uint32_t operand, int k8, int rest, int first, float (&b)[kStep][8]) const {
    if constexpr (kLayoutB == Layout::line_major) {
#pragma unroll
      for (int e = 0; e < kStep; ++e) load_b_of(operand, k8, rest + e, first, b[e]);
    } else {
      const int vector = (k8 + rest) / 4;
      const std::uint32_t line = operand + (warp_column_ + across_) * kStageKBytes;
      const std::uint32_t places[2] = {line + ((vector ^ across_) << 4), line + ((vector ^ (across_ + 4)) << 4)};
#pragma unroll
      for (int c = 0; c < 8; ++c) {
        float v[kStep];
        load_k(places[c % 2] + (first + c) * 4 * kStageKBytes, v);
#pragma unroll
        for (int e = 0; e < kStep; ++e) b[e][c] = v[e];
      }
    }
  }

  __device__ void multiply(const PartView& part, Sums& sums) const {
    if (part.pairs == kFullSlice) {
#pragma unroll 1
      for (int k = part.k_begin; k < part.k_end; k += 8) {
#pragma unroll
        for (int rest = 0; rest < 8; rest += kStep) multiply_all(part, k, rest, sums);
      }
    } else {
#pragma unroll 1
      for (int k = part.k_begin; k < part.k_end; k += 8) {
#pragma unroll
        for (int rest = 0; rest < 8; rest += kStep) multiply_some(part, k, rest, sums);
      }
    }
  }

  __device__ void multiply_all(const PartView& part, int k8, int rest, Sums& sums) const {
    float a[kStep][kRows];
    if constexpr (kLayoutB == Layout::line_major) {
      if constexpr (kLayoutA == Layout::k_major) load_a(part.a, k8, rest, a);
#pragma unroll
      for (int e = 0; e < kStep; ++e) {
        float b[kColumns];
        if constexpr (kLayoutA == Layout::line_major) load_a_of(part.a, k8, rest + e, a[e]);
        load_b_of(part.b, k8, rest + e, 0, b);
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
#pragma unroll
          for (int c = 0; c < kColumns; ++c) sums[r][c] = fmaf(a[e][r], b[c], sums[r][c]);
        }
      }
    } else {
      load_a(part.a, k8, rest, a);
#pragma unroll
      for (int first = 0; first < kColumns; first += 8) {
        float b[kStep][8];
        load_b(part.b, k8, rest, first, b);
#pragma unroll
        for (int e = 0; e < kStep; ++e) {
#pragma unroll
          for (int r = 0; r < kRows; ++r) {
#pragma unroll
            for (int c = 0; c < 8; ++c) sums[r][first + c] = fmaf(a[e][r], b[e][c], sums[r][first + c]);
          }
        }
      }
    }
  }

  __device__ void multiply_some(const PartView& part, int k8, int rest, Sums& sums) const {
    float a[kStep][kRows];
    load_a(part.a, k8, rest, a);
#pragma unroll
    for (int first = 0; first < kColumns; first += 8) {
      float b[kStep][8];
      load_b(part.b, k8, rest, first, b);
#pragma unroll
      for (int i = 0; i < kI; ++i) {
#pragma unroll
        for (int c = 0; c < 8; c += 4) {
          if (!(part.pairs >> (i * kJ + (first + c) / 4) & 1)) continue;
#pragma unroll
          for (int e = 0; e < kStep; ++e) {
#pragma unroll
            for (int r = 2 * i; r < 2 * i + 2; ++r) {
#pragma unroll
              for (int d = c; d < c + 4; ++d) sums[r][first + d] = fmaf(a[e][r], b[e][d], sums[r][first + d]);
            }
          }
        }
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
#pragma unroll
        for (int r = 2 * i; r < 2 * i + 2; ++r) scale.template add<4>(&sums_[r][4 * j], &block_sums_[r][4 * j]);
      }
    }
  }

  int warp_row_, warp_column_, down_, across_;
  Sums sums_;
  std::conditional_t<kMasks == Masks::scaling, Sums, char> block_sums_;
};

}  // namespace maskmm::cuda::simt
