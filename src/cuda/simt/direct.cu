// The kernel for small float32 problems.
#include "cuda/simt/direct.hpp"
#include "cuda/sm80/direct.cuh"

namespace maskmm::cuda::simt {
namespace {

/// float32 by fused multiply-adds. A warp has 16 rows and 32 columns of the result, lanes 4 down by 8 across, a thread
/// 4 x 4 sums, all in one square of 16 x 16. A thread's lines lie apart where k is contiguous and side by side where
/// lines are: no read meets another's bank.
struct SmallMultiply32 {
  using Element = float;
  using Shape = TileShape<32, 32, 2, 1, 0, 2>;
  static constexpr int kSums = 16;

  __device__ SmallMultiply32(const MultiplyParams& params, int warp_row, int warp_column)
      : a_k_major_(params.a.k_major), b_k_major_(params.b.k_major), warp_row_(warp_row), warp_column_(warp_column) {}

  __device__ void clear() {
#pragma unroll
    for (auto& row : sums_) {
#pragma unroll
      for (float& sum : row) sum = 0;
    }
  }

  __device__ void part(const MultiplyParams&, const PartView& part) {
    if (!(part.pairs >> square_ & 1)) return;
    if (a_k_major_) {
      b_k_major_ ? multiply<Layout::k_major, Layout::k_major>(part)
                 : multiply<Layout::k_major, Layout::line_major>(part);
    } else {
      b_k_major_ ? multiply<Layout::line_major, Layout::k_major>(part)
                 : multiply<Layout::line_major, Layout::line_major>(part);
    }
  }

  template <int kStep>
  __device__ void put(float* to) const {
#pragma unroll
    for (int e = 0; e < kSums; ++e) to[e * kStep] = sums_[e / 4][e % 4];
  }

  template <int kStep>
  __device__ void add(const float* from) {
#pragma unroll
    for (int e = 0; e < kSums; ++e) sums_[e / 4][e % 4] += from[e * kStep];
  }

  __device__ void store(const MultiplyParams& params, const Tile& tile, unsigned live) const {
    const Epilogue<float, float> epilogue(params, tile);
    const bool is_live = live >> square_ & 1;
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      float values[4];
#pragma unroll
      for (int c = 0; c < 4; ++c) values[c] = is_live ? sums_[r][c] : 0.0f;
      if (!b_k_major_) {
        epilogue.write(row_of(r), column_of(0), values);
        continue;
      }
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const float value[1] = {values[c]};
        epilogue.write(row_of(r), column_of(c), value);
      }
    }
  }

 private:
  __device__ int row_of(int r) const { return warp_row_ + (a_k_major_ ? down_ + 4 * r : 4 * down_ + r); }
  __device__ int column_of(int c) const {
    return warp_column_ + (b_k_major_ ? 16 * square_ + across_ % 4 + 4 * (c ^ square_) : 4 * across_ + c);
  }

  /// Four lines of an operand at four elements of k, from `k` on.
  template <Layout kLayout>
  __device__ static void load(std::uint32_t stage, int k, const int (&lines)[4], float (&to)[4][4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (kLayout == Layout::k_major) {
        const float4 v = load_4(stage + lines[i] * kStageKBytes + ((k / 4 ^ swizzle<float>(lines[i])) << 4));
        to[0][i] = v.x, to[1][i] = v.y, to[2][i] = v.z, to[3][i] = v.w;
      } else {
        const float4 v = load_4(stage + (k + i) * (Shape::kRows * 4) + ((lines[0] / 4 ^ swizzle<float>(k + i)) << 4));
        to[i][0] = v.x, to[i][1] = v.y, to[i][2] = v.z, to[i][3] = v.w;
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

  template <Layout kLayoutA, Layout kLayoutB>
  __device__ void multiply(const PartView& part) {
    static_assert(Shape::kRows == 32 && Shape::kColumns == 32);  // eight vectors, as many as the swizzle tells apart
    const int rows[4] = {row_of(0), row_of(1), row_of(2), row_of(3)};
    const int columns[4] = {column_of(0), column_of(1), column_of(2), column_of(3)};
#pragma unroll 2
    for (int k = part.k_begin; k < part.k_end; k += 4) {
      float a[4][4], b[4][4];
      load<kLayoutA>(part.a, k, rows, a);
      load<kLayoutB>(part.b, k, columns, b);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
#pragma unroll
          for (int c = 0; c < 4; ++c) sums_[r][c] = __fmaf_rn(a[e][r], b[e][c], sums_[r][c]);
        }
      }
    }
  }

  bool a_k_major_, b_k_major_;
  int warp_row_, warp_column_;
  int down_ = threadIdx.x % 32 / 8, across_ = threadIdx.x % 8;
  int square_ = across_ / 4;
  float sums_[4][4];
};

}  // namespace

Kernel direct_kernel() { return sm80::direct_kernel_named<SmallMultiply32, 4>("simt float32 direct 32x32"); }

}  // namespace maskmm::cuda::simt
