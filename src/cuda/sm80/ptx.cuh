// Raw instructions of the sm80 family: fragments out of shared memory, and tensor core products.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace maskmm::cuda::ptx {

/// Four 8 x 8 matrices of 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8. Both forms are issued,
/// one of them switched off: cheaper than a branch, and one kernel serves both layouts.
__device__ inline void load_matrices(unsigned (&to)[4], std::uint32_t from, bool transposed) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %5, 0;\n"
      "@!p ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
      "@p ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n}"
      : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
      : "r"(from), "r"(static_cast<int>(transposed))
      : "memory");
}

/// sums += a (16 x 16) * b (16 x 8), if `live`, which is the same in the whole warp. A predicate, not a branch: where
/// accumulators meet after branches, the compiler copies them.
template <class Element>
__device__ inline void multiply_16x8x16(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1,
                                        unsigned live) {
  if constexpr (std::is_same_v<Element, __half>) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.u32 p, %10, 0;\n"
        "@p mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};\n}"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(live));
  } else {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.u32 p, %10, 0;\n"
        "@p mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};\n}"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(live));
  }
}

/// The same in float64, a (16 x 8) * b (8 x 8). With g = lane / 4 and t = lane % 4, a holds (g, t), (g + 8, t),
/// (g, t + 4), (g + 8, t + 4); b holds (t, g), (t + 4, g); sums holds (g, 2t), (g, 2t + 1) and the same of row g + 8.
__device__ inline void multiply_16x8x8(double (&sums)[4], const double (&a)[4], const double (&b)[2], unsigned live) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.u32 p, %10, 0;\n"
      "@p mma.sync.aligned.m16n8k8.row.col.f64.f64.f64.f64 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};\n}"
      : "+d"(sums[0]), "+d"(sums[1]), "+d"(sums[2]), "+d"(sums[3])
      : "d"(a[0]), "d"(a[1]), "d"(a[2]), "d"(a[3]), "d"(b[0]), "d"(b[1]), "r"(live));
#else
#pragma unroll
  for (int k = 0; k < 2; ++k) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      asm volatile(
          "{\n.reg .pred p;\nsetp.ne.u32 p, %4, 0;\n"
          "@p mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};\n}"
          : "+d"(sums[2 * half]), "+d"(sums[2 * half + 1])
          : "d"(a[2 * k + half]), "d"(b[k]), "r"(live));
    }
  }
#endif
}

__device__ inline double load_shared_double(std::uint32_t from) {
  double value;
  asm volatile("ld.shared.f64 %0, [%1];" : "=d"(value) : "r"(from) : "memory");
  return value;
}

}  // namespace maskmm::cuda::ptx
