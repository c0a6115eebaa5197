// Raw instructions of the sm80 family: fragments out of shared memory, and tensor core products.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstddef>
#include <cstdint>

#include "cuda/params.hpp"

namespace maskmm::cuda::ptx {

/// Four 8 x 8 matrices of 16-bit elements, transposed where they lie line-major; lane i gives the address of row i % 8
/// of matrix i / 8.
template <Layout kLayout>
__device__ inline void load_matrices(unsigned (&to)[4], std::uint32_t from) {
  if constexpr (kLayout == Layout::line_major) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(from)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(from)
                 : "memory");
  }
}

#define MASKMM_MULTIPLY_16X8X16(TYPES, SUMS, B) \
  "mma.sync.aligned.m16n8k16.row.col.f32." TYPES ".f32 {" SUMS "}, {%8, %9, %10, %11}, {" B "}, {" SUMS "};\n"
#define MASKMM_MULTIPLY_16X16X16(TYPES, PREDICATE)                       \
  PREDICATE MASKMM_MULTIPLY_16X8X16(TYPES, "%0, %1, %2, %3", "%12, %13") \
      PREDICATE MASKMM_MULTIPLY_16X8X16(TYPES, "%4, %5, %6, %7", "%14, %15")
#define MASKMM_MULTIPLY_OPERANDS                                                                              \
  "+f"(left[0]), "+f"(left[1]), "+f"(left[2]), "+f"(left[3]), "+f"(right[0]), "+f"(right[1]), "+f"(right[2]), \
      "+f"(right[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(b[2]), "r"(b[3])

/// left, right += a (16 x 16) * b (16 x 16), the left and the right 8 columns.
template <class Element>
__device__ inline void multiply_16x16x16(float (&left)[4], float (&right)[4], const unsigned (&a)[4],
                                         const unsigned (&b)[4]) {
  if constexpr (std::is_same_v<Element, __half>) {
    asm volatile(MASKMM_MULTIPLY_16X16X16("f16.f16", "") : MASKMM_MULTIPLY_OPERANDS);
  } else {
    asm volatile(MASKMM_MULTIPLY_16X16X16("bf16.bf16", "") : MASKMM_MULTIPLY_OPERANDS);
  }
}

/// The same if `live`, which is equal in the whole warp. A predicate, not a branch: where accumulators meet after
/// branches, the compiler copies them.
template <class Element>
__device__ inline void multiply_16x16x16(float (&left)[4], float (&right)[4], const unsigned (&a)[4],
                                         const unsigned (&b)[4], unsigned live) {
  if constexpr (std::is_same_v<Element, __half>) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.u32 p, %16, 0;\n" MASKMM_MULTIPLY_16X16X16("f16.f16", "@p ") "}"
                 : MASKMM_MULTIPLY_OPERANDS, "r"(live));
  } else {
    asm volatile("{\n.reg .pred p;\nsetp.ne.u32 p, %16, 0;\n" MASKMM_MULTIPLY_16X16X16("bf16.bf16", "@p ") "}"
                 : MASKMM_MULTIPLY_OPERANDS, "r"(live));
  }
}

#define MASKMM_MULTIPLY_16X8X8(SUMS, B) \
  "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {" SUMS "}, {%8, %9, %10, %11}, {" B "}, {" SUMS "};\n"
#define MASKMM_MULTIPLY_16X16X8(PREDICATE)                       \
  PREDICATE MASKMM_MULTIPLY_16X8X8("%0, %1, %2, %3", "%12, %13") \
      PREDICATE MASKMM_MULTIPLY_16X8X8("%4, %5, %6, %7", "%14, %15")

/// The same for TF32, a (16 x 8) * b (8 x 16). With g = lane / 4 and t = lane % 4, a holds (g, t), (g + 8, t),
/// (g, t + 4), (g + 8, t + 4); b holds (t, g), (t + 4, g), (t, g + 8), (t + 4, g + 8).
__device__ inline void multiply_16x16x8(float (&left)[4], float (&right)[4], const unsigned (&a)[4],
                                        const unsigned (&b)[4]) {
  asm volatile(MASKMM_MULTIPLY_16X16X8("") : MASKMM_MULTIPLY_OPERANDS);
}
__device__ inline void multiply_16x16x8(float (&left)[4], float (&right)[4], const unsigned (&a)[4],
                                        const unsigned (&b)[4], unsigned live) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.u32 p, %16, 0;\n" MASKMM_MULTIPLY_16X16X8("@p ") "}"
               : MASKMM_MULTIPLY_OPERANDS, "r"(live));
}

#undef MASKMM_MULTIPLY_16X16X8
#undef MASKMM_MULTIPLY_16X8X8
#undef MASKMM_MULTIPLY_OPERANDS
#undef MASKMM_MULTIPLY_16X16X16
#undef MASKMM_MULTIPLY_16X8X16

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

/// Closes a group of this thread's copies.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Returns when all groups but the last kGroups have landed.
template <int kGroups>
__device__ inline void wait_for_copies_but() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}

/// 16 bytes of global memory that nobody reads again soon.
__device__ inline uint4 read_once(const std::byte* from) {
  uint4 value;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(from));
  return value;
}

/// A barrier of its own for kThreads threads. Barrier 0 is __syncthreads'.
template <int kThreads>
__device__ inline void sync_threads(int barrier) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "n"(kThreads) : "memory");
}

__device__ inline unsigned load_shared_4(std::uint32_t from) {
  unsigned value;
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(value) : "r"(from) : "memory");
  return value;
}

__device__ inline uint2 load_shared_8(std::uint32_t from) {
  uint2 value;
  asm volatile("ld.shared.v2.b32 {%0, %1}, [%2];" : "=r"(value.x), "=r"(value.y) : "r"(from) : "memory");
  return value;
}

__device__ inline double load_shared_double(std::uint32_t from) {
  double value;
  asm volatile("ld.shared.f64 %0, [%1];" : "=d"(value) : "r"(from) : "memory");
  return value;
}

}  // namespace maskmm::cuda::ptx
