// Hopper's own instructions: bulk tensor copies, clusters, warpgroup matrix products. Code that uses them is compiled
// for sm_90a only.
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <type_traits>

#include "cuda/params.hpp"
#include "cuda/ptx.cuh"

namespace maskmm::cuda::sm90 {

/// A value that is the same in all lanes, such that the compiler knows it: descriptors and branches around products
/// must be provably uniform.
__device__ inline unsigned uniform(unsigned value) { return __reduce_or_sync(0xffffffffu, value); }

}  // namespace maskmm::cuda::sm90

namespace maskmm::cuda::sm90::ptx {

using cuda::ptx::barrier_arrive;
using cuda::ptx::barrier_init;
using cuda::ptx::barrier_wait;
using cuda::ptx::give_registers;
using cuda::ptx::shared_address;
using cuda::ptx::take_registers;

/// The value, which the compiler then keeps rather than works out again.
__device__ inline std::uint32_t kept(std::uint32_t value) {
  asm volatile("" : "+r"(value));
  return value;
}

/// True in one lane of the warp. The compiler knows that, and starts a copy without a loop over lanes.
__device__ inline bool elect() {
  unsigned elected;
  asm volatile("{\n.reg .pred p;\nelect.sync _|p, 0xffffffff;\nselp.u32 %0, 1, 0, p;\n}" : "=r"(elected) : : "memory");
  return elected != 0;
}

/// One arrival, which also announces the bytes that copies will bring.
__device__ inline void barrier_arrive_expecting(std::uint32_t barrier, std::uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

/// The same place in the shared memory of another block of the cluster.
__device__ inline std::uint32_t in_block(std::uint32_t address, unsigned rank) {
  std::uint32_t result;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(result) : "r"(address), "r"(rank));
  return result;
}

/// Without .release.cluster, which would be a fence of the whole device for each arrival: the barrier orders nothing
/// but the asynchronous copies that follow it.
__device__ inline void barrier_arrive_in_cluster(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/// Writes a word into the shared memory of another block; its bytes count on the barrier there.
__device__ inline void send(std::uint32_t to, unsigned word, std::uint32_t barrier) {
  asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(to), "r"(word),
               "r"(barrier)
               : "memory");
}

__device__ inline void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ inline unsigned rank_in_cluster() {
  unsigned rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

__device__ inline void sync_cluster() { asm volatile("barrier.cluster.arrive;\nbarrier.cluster.wait;" ::: "memory"); }

/// Fetches what the copy engine must know of a tensor, before the first copy.
__device__ inline void prefetch(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

struct Coordinates {
  int inner, outer, chunk, batch, batch_outer;
};

/// A box of a tensor into shared memory; its bytes count on the barrier.
__device__ inline void copy_box(std::uint32_t to, const CUtensorMap& map, std::uint32_t barrier, Coordinates at) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6, "
      "%7}], [%2];" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(at.inner), "r"(at.outer), "r"(at.chunk), "r"(at.batch), "r"(at.batch_outer)
      : "memory");
}

/// The same, into the same place of every block of the cluster in `blocks`, and onto the barrier there.
__device__ inline void copy_box_to_all(std::uint32_t to, const CUtensorMap& map, std::uint32_t barrier, Coordinates at,
                                       std::uint16_t blocks) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, "
      "{%3, %4, %5, %6, %7}], [%2], %8;" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(at.inner), "r"(at.outer), "r"(at.chunk), "r"(at.batch), "r"(at.batch_outer),
      "h"(blocks)
      : "memory");
}

__device__ inline void store_shared(std::uint32_t to, uint4 value) { cuda::ptx::store_shared_16(to, value); }

__device__ inline uint4 load_shared(std::uint32_t from) {
  uint4 value;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "r"(from)
               : "memory");
  return value;
}

__device__ inline float load_shared_float(std::uint32_t from) {
  float value;
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(value) : "r"(from) : "memory");
  return value;
}

__device__ inline void store_shared(std::uint32_t to, float value) {
  asm volatile("st.shared.f32 [%0], %1;" ::"r"(to), "f"(value) : "memory");
}

__device__ inline unsigned load_shared_word(std::uint32_t from) {
  unsigned value;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(value) : "r"(from) : "memory");
  return value;
}

__device__ inline void store_shared_word(std::uint32_t to, unsigned value) {
  asm volatile("st.shared.u32 [%0], %1;" ::"r"(to), "r"(value) : "memory");
}

/// An 8 x 8 matrix of 16-bit elements, spread over a warp, transposed.
__device__ inline unsigned transpose_8x8(unsigned matrix) {
  unsigned result;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(matrix));
  return result;
}

__device__ inline void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

/// Waits until at most kPending groups of products are unfinished.
template <int kPending>
__device__ inline void products_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

/// Where an operand of a product lies: 64 lines or k of 128 bytes each, swizzled over 128 bytes (see stage.cuh).
template <Layout kLayout>
struct Descriptor {
  static constexpr std::uint32_t kHigh =
      1u << 30 | 1024 / 16;                           // 128-byte swizzle; 1024 bytes from 8 rows to the next 8
  static constexpr std::uint32_t kChunk = 8192 / 16;  // from 64 lines to the next 64
  static constexpr std::uint32_t kStep = (kLayout == Layout::k_major ? 32 : 2048) / 16;  // 16 elements of k

  /// In clusters an address has bits above the 18 that count.
  static __device__ std::uint32_t low(std::uint32_t address) { return kChunk << 16 | (address & 0x3ffff) >> 4; }
  static __device__ std::uint64_t make(std::uint32_t low_word) { return std::uint64_t{kHigh} << 32 | low_word; }
};

/// The same for blocks of 32 lines by 32 of k: 64 bytes a row, swizzled over 64.
template <Layout kLayout>
struct Descriptor32 {
  static constexpr std::uint32_t kHigh = 2u << 30 | 512 / 16;
  static constexpr std::uint32_t kStep = (kLayout == Layout::k_major ? 32 : 1024) / 16;

  static __device__ std::uint32_t low(std::uint32_t address) { return 1u << 16 | (address & 0x3ffff) >> 4; }
  static __device__ std::uint64_t make(std::uint32_t low_word) { return std::uint64_t{kHigh} << 32 | low_word; }
};

/// A fragment of 64 x 16 (16 x 16 of a warp); each lane gives the address of one row of eight elements.
template <Layout kLayout>
__device__ inline void load_matrices(unsigned* fragment, std::uint32_t row) {
  if constexpr (kLayout == Layout::k_major) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
                 : "r"(row)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
                 : "r"(row)
                 : "memory");
  }
}

// Eight accumulators of a product.
#define MASKMM_SUMS(i)                                                                                          \
  "+f"(sums[i]), "+f"(sums[i + 1]), "+f"(sums[i + 2]), "+f"(sums[i + 3]), "+f"(sums[i + 4]), "+f"(sums[i + 5]), \
      "+f"(sums[i + 6]), "+f"(sums[i + 7])
#define MASKMM_SUMS_32(i) MASKMM_SUMS(i), MASKMM_SUMS(i + 8), MASKMM_SUMS(i + 16), MASKMM_SUMS(i + 24)
#define MASKMM_LIST_32                                                                                         \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, " \
  "%23, %24, %25, %26, %27, %28, %29, %30, %31}"
#define MASKMM_LIST_64                                                                                         \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, " \
  "%23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, "  \
  "%44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}"

/// sums[kFirst ...] = a * b, plus what was there if `accumulate`: a is 64 x 16, b is 16 x 64 or 16 x 128, both in
/// shared memory.
template <class Element, Layout kA, Layout kB, int kColumns, int kFirst, int kSums>
__device__ inline void multiply(float (&sums)[kSums], std::uint64_t a, std::uint64_t b, int accumulate) {
  static_assert(kColumns == 64 || kColumns == 128);
  static_assert(std::is_same_v<Element, __half> || std::is_same_v<Element, __nv_bfloat16>);
  constexpr int kAcross = kA == Layout::line_major, kDown = kB == Layout::line_major;
#define MASKMM_PRODUCT(type)                                                            \
  if constexpr (kColumns == 128) {                                                      \
    asm volatile(                                                                       \
        "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"                                    \
        "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " " MASKMM_LIST_64 \
        ", %64, %65, p, 1, 1, %67, %68;\n}"                                             \
        : MASKMM_SUMS_32(kFirst), MASKMM_SUMS_32(kFirst + 32)                           \
        : "l"(a), "l"(b), "r"(accumulate), "n"(kAcross), "n"(kDown));                   \
  } else {                                                                              \
    asm volatile(                                                                       \
        "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"                                    \
        "wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " " MASKMM_LIST_32  \
        ", %32, %33, p, 1, 1, %35, %36;\n}"                                             \
        : MASKMM_SUMS_32(kFirst)                                                        \
        : "l"(a), "l"(b), "r"(accumulate), "n"(kAcross), "n"(kDown));                   \
  }
  if constexpr (std::is_same_v<Element, __half>) {
    MASKMM_PRODUCT("f16")
  } else {
    MASKMM_PRODUCT("bf16")
  }
#undef MASKMM_PRODUCT
}

/// sums[kFirst ...] = a * b, plus what was there if `accumulate`: a is 64 x 16, in registers, b is 16 x 32, in shared
/// memory.
template <class Element, Layout kB, int kFirst, int kSums>
__device__ inline void multiply_32(float (&sums)[kSums], const unsigned* a, std::uint64_t b, int accumulate) {
  constexpr int kDown = kB == Layout::line_major;
#define MASKMM_PRODUCT(type)                                                      \
  asm volatile(                                                                   \
      "{\n.reg .pred p;\nsetp.ne.b32 p, %22, 0;\n"                                \
      "wgmma.mma_async.sync.aligned.m64n32k16.f32." type "." type                 \
      " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, " \
      "{%16, %17, %18, %19}, %20, p, 1, 1, %21;\n}"                               \
      : MASKMM_SUMS(kFirst), MASKMM_SUMS(kFirst + 8)                              \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kDown), "r"(accumulate));
  if constexpr (std::is_same_v<Element, __half>) {
    MASKMM_PRODUCT("f16")
  } else {
    MASKMM_PRODUCT("bf16")
  }
#undef MASKMM_PRODUCT
}

#undef MASKMM_SUMS
#undef MASKMM_SUMS_32
#undef MASKMM_LIST_32
#undef MASKMM_LIST_64

}  // namespace maskmm::cuda::sm90::ptx
