// float16 and bfloat16 on Hopper where the tiles of the result all run at one time: one launch, which reads the masks'
// bytes itself.
//
// Roles: a thread block has one tile, or a part of k of one. All its warps read the masks and list the live stages of
// 64 of k; then one warp has the copy engine fill a ring of stages, and one or two warpgroups multiply (wgmma), each 64
// rows of the tile; pairs of blocks of 64 x 64 are skipped. Memory: the ring, then its barriers. Limits: masks are
// bool, their blocks multiples of 64, a part has at most kMostWaveStages stages. Design: docs/design/sm90.md.
#pragma once

#include "cuda/early.cuh"
#include "cuda/sm90/ptx.cuh"
#include "cuda/sm90/store.cuh"
#include "cuda/sm90/wave_masks.cuh"

namespace maskmm::cuda::sm90 {

template <class Work>
struct WaveRing {
  std::uint32_t start;  // a multiple of 1024

  __device__ std::uint32_t a(int slot, int row_block) const {
    return start + slot * Work::kStageBytes + row_block * kBlockBytes;
  }
  __device__ std::uint32_t b(int slot, int column_block) const { return a(slot, Work::kRowBlocks + column_block); }
  __device__ std::uint32_t full(int slot) const { return start + Work::kStages * Work::kStageBytes + slot * 8; }
  __device__ std::uint32_t empty(int slot) const { return full(Work::kStages) + slot * 8; }

  __device__ void init() const {
    for (int slot = 0; slot < Work::kStages; ++slot) {
      ptx::barrier_init(full(slot), 1);
      ptx::barrier_init(empty(slot), Work::kMultiplyThreads / 32);
    }
  }
  /// This warp is through with the slot.
  __device__ void release(int slot) const {
    if (threadIdx.x % 32 == 0) ptx::barrier_arrive(empty(slot));
  }
};

/// The warp that has the copies made.
template <class Work>
struct WaveLoader {
  using Masks = WaveMasks<Work>;
  const SmallParams& params;
  const WavePlace<Work>& place;
  const WaveRing<Work> ring;

  __device__ void run(const Masks& masks, int first) const {
    const MultiplyParams& p = params.direct.multiply;
    int inner = place.batch, outer = 0;
    if (p.batch.rank == 2) {
      outer = inner / static_cast<int>(p.batch.size[1]);
      inner -= outer * static_cast<int>(p.batch.size[1]);
    }
    const int count = masks.count();
#pragma unroll 1
    for (int i = 0; i < count; ++i) {
      const int slot = i % Work::kStages;
      const unsigned entry = masks.list[i];
      ptx::barrier_wait(ring.empty(slot), (i / Work::kStages & 1) ^ 1);
      if (ptx::elect())
        fill(masks, slot, (first + static_cast<int>(entry & 0xff)) * kBlock, entry >> Masks::kFirstPair, inner, outer);
      __syncwarp();
    }
  }

 private:
  template <Layout kLayout>
  static __device__ ptx::Coordinates at(int line, int k, const BatchSteps& steps, int inner, int outer) {
    return {kLayout == Layout::k_major ? k : line, kLayout == Layout::k_major ? line : k, 0, inner * steps.inner,
            outer * steps.outer};
  }

  __device__ void fill(const Masks& masks, int slot, int k, unsigned pairs, int inner, int outer) const {
    const std::uint32_t full = ring.full(slot);
    unsigned rows = 0, columns = 0;
#pragma unroll
    for (int i = 0; i < Work::kRowBlocks; ++i) {
      const unsigned of_row = pairs >> (i * Work::kColumnBlocks) & Work::kAllColumns;
      rows |= unsigned{of_row != 0} << i;
      columns |= of_row;
    }
    ptx::barrier_arrive_expecting(full, static_cast<std::uint32_t>(__popc(rows) + __popc(columns)) * kBlockBytes);
#pragma unroll
    for (int i = 0; i < Work::kRowBlocks; ++i) {
      if (rows >> i & 1)
        ptx::copy_box(ring.a(slot, i), params.a, full, at<Work::kA>(masks.rows[i], k, params.a_batch, inner, outer));
    }
#pragma unroll
    for (int j = 0; j < Work::kColumnBlocks; ++j) {
      if (columns >> j & 1)
        ptx::copy_box(ring.b(slot, j), params.b, full, at<Work::kB>(masks.columns[j], k, params.b_batch, inner, outer));
    }
  }
};

/// A warpgroup: 64 rows of the tile.
template <class Work>
struct WaveMultiplier {
  using Element = typename Work::Element;
  using A = ptx::Descriptor<Work::kA>;
  using B = ptx::Descriptor<Work::kB>;
  using Masks = WaveMasks<Work>;
  using Place = Writer<Element, Work::kColumnBlocks>;

  const SmallParams& params;
  const WavePlace<Work>& place;
  const WaveRing<Work> ring;
  const int group;

  __device__ void run(const Masks& masks) const {
    float sums[128];
    unsigned started = 0;  // columns of blocks that hold sums
    multiply(masks, sums, started);
    const MultiplyParams& p = params.direct.multiply;
    if (p.partial != nullptr) {
      store_part(sums, started, masks.kept >> (group * Work::kColumnBlocks), masks.rows[group]);
    } else {
      store(masks, sums, started);
    }
  }

 private:
  __device__ void multiply(const Masks& masks, float (&sums)[128], unsigned& started) const {
    const int count = masks.count();
    int held = -1;  // the slot whose products may be running
#pragma unroll 1
    for (int i = 0; i < count; ++i) {
      const int slot = i % Work::kStages;
      const unsigned mine =
          uniform(masks.list[i] >> (Masks::kFirstPair + group * Work::kColumnBlocks) & Work::kAllColumns);
      ptx::barrier_wait(ring.full(slot), i / Work::kStages & 1);
      if (mine != 0) {
        stage(sums, slot, mine, started);
        ptx::products_wait<1>();
        if (held >= 0) ring.release(held);
        held = slot;
      } else {
        if (held >= 0) {
          ptx::products_wait<0>();
          ring.release(held);
          held = -1;
        }
        ring.release(slot);
      }
    }
    ptx::products_wait<0>();
#pragma unroll
    for (int i = 0; i < Work::kSums; ++i) asm volatile("" : "+f"(sums[i])::"memory");
  }

  /// Starts the products of one stage; see Multiplier.
  __device__ void stage(float (&sums)[128], int slot, unsigned mine, unsigned& started) const {
    const unsigned a = uniform(A::low(ring.a(slot, group))), b = uniform(B::low(ring.b(slot, 0)));
    if constexpr (Work::kSkip == Skip::rows) {
      ptx::products_begin();
#pragma unroll
      for (int k = 0; k < kBlock / 16; ++k) {
        const int accumulate = k > 0 ? 1 : static_cast<int>(started);
        step<128, 0>(sums, a, b, k, accumulate);
        if constexpr (Work::kColumnBlocks > 2) step<128, 64>(sums, a, b, k, accumulate);
      }
      ptx::products_commit();
      started = Work::kAllColumns;
    } else {
      column<0>(sums, a, b, mine, started);
      if constexpr (Work::kColumnBlocks > 1) column<1>(sums, a, b, mine, started);
      if constexpr (Work::kColumnBlocks > 2) {
        column<2>(sums, a, b, mine, started);
        column<3>(sums, a, b, mine, started);
      }
      started |= mine;
    }
  }

  template <int kColumn>
  __device__ void column(float (&sums)[128], unsigned a, unsigned b, unsigned mine, unsigned started) const {
    if (!(mine >> kColumn & 1)) return;
    ptx::products_begin();
#pragma unroll
    for (int k = 0; k < kBlock / 16; ++k) step<64, kColumn * 32>(sums, a, b, k, k > 0 ? 1 : started >> kColumn & 1);
    ptx::products_commit();
  }

  template <int kWidth, int kFirst>
  static __device__ void step(float (&sums)[128], unsigned a, unsigned b, int k, int accumulate) {
    constexpr unsigned kColumnOffset = kFirst / 32 * B::kChunk;
    ptx::multiply<Element, Work::kA, Work::kB, kWidth, kFirst>(sums, A::make(a + k * A::kStep),
                                                               B::make(b + kColumnOffset + k * B::kStep), accumulate);
  }

  /// Zeros where mask_out drops the tile's neighbours, each by a warp.
  __device__ void store(const Masks& masks, float (&sums)[128], unsigned started) const {
    const MultiplyParams& p = params.direct.multiply;
    const int row = masks.rows[group], rows_left = static_cast<int>(smaller(p.m - row, kBlock));
    int columns[4] = {-1, -1, -1, -1};
#pragma unroll
    for (int j = 0; j < Work::kColumnBlocks; ++j) columns[j] = masks.columns[j];
#pragma unroll
    for (int i = 0; i < Work::kSums; ++i) sums[i] = started >> (i / 32) & 1 ? sums[i] : 0.f;
    Place{p.out.data + batch_offset(p.batch, p.out.batch, place.batch) + row * p.out.row_stride,
          p.out.row_stride,
          p.out.col_stride,
          rows_left,
          make_int4(columns[0], columns[1], columns[2], columns[3]),
          static_cast<int>(p.n),
          p.out.vectors && p.n % 8 == 0,
          params.down && rows_left % 8 == 0,
          p.out.aligned}
        .write(sums);
  }

  /// A block without a live triple is written as -0: see Epilogue; one that mask_out drops is not written.
  __device__ void store_part(float (&sums)[128], unsigned started, unsigned kept, int row) const {
    const MultiplyParams& p = params.direct.multiply;
    const int i = Place::first_row() + Place::lane() / 4, j = Place::lane() % 4 * 2;
    const int rows = static_cast<int>(smaller(p.m - row, kBlock)) - i,
              columns = static_cast<int>(p.n) - place.column(0) - j;
    float* const to = static_cast<float*>(p.partial) +
                      ((std::int64_t{place.split} * p.batch_size + place.batch) * p.m + row + i) * p.n +
                      place.column(0) + j;
    const bool pairs = p.n % 2 == 0;
#pragma unroll
    for (int e = 0; e < Work::kSums; e += 2) {
      const bool holds = started >> (e / 32) & 1;
      const float2 two = make_float2(holds ? sums[e] + 0.f : -0.f, holds ? sums[e + 1] + 0.f : -0.f);
      const int down = e % 4 * 4, right = e / 4 * 8;
      if (down >= rows || right >= columns || !(kept >> (e / 32) & 1)) continue;
      float* const at = to + down * p.n + right;
      if (pairs) {
        *reinterpret_cast<float2*>(at) = two;
      } else {
        at[0] = two.x;
        if (right + 1 < columns) at[1] = two.y;
      }
    }
  }
};

template <class Work>
__global__ void __launch_bounds__(Work::kThreads, 1) wave_kernel(const __grid_constant__ SmallParams params) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) std::byte shared[];
  __shared__ WaveMasks<Work> masks;
  const WaveRing<Work> ring{ptx::shared_address(shared)};
  if (params.direct.multiply.partial != nullptr) cuda::ptx::let_next_launch_start();  // the sum over parts
  if (threadIdx.x == 0) {
    ptx::prefetch(params.a), ptx::prefetch(params.b);
    ring.init();
    ptx::publish_barriers();
  }
  const MultiplyParams& p = params.direct.multiply;
  const int splits = static_cast<int>(p.schedule.splits), batch = static_cast<int>(blockIdx.z) / splits;
  const WavePlace<Work> place{static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.y), batch,
                              static_cast<int>(blockIdx.z) - batch * splits};
  const int stages = static_cast<int>((p.k + kBlock - 1) / kBlock), part = (stages + splits - 1) / splits;
  const int first = place.split * part;
  masks.read(params, place, first, min(first + part, stages));

  const int group = static_cast<int>(uniform(threadIdx.x / 128));
  if (group < Work::kRowBlocks) {
    WaveMultiplier<Work>{params, place, ring, group}.run(masks);
  } else {
    WaveLoader<Work>{params, place, ring}.run(masks, first);
  }
#else
  __trap();  // never chosen: see DeviceLimits::hopper_code
#endif
}

template <class Work>
Kernel wave_kernel_of(const char* name) {
  Kernel kernel;
  kernel.function = reinterpret_cast<const void*>(&wave_kernel<Work>);
  kernel.name = name;
  kernel.rows = Work::kRows;
  kernel.columns = Work::kColumns;
  kernel.threads = Work::kThreads;
  kernel.blocks_per_sm = 1;
  kernel.stage_bytes = Work::kSharedBytes;  // of all stages
  kernel.cluster = 1;
  kernel.wave = true;
  kernel.block = kBlock;
  return kernel;
}

template <class Element, Layout kA, Layout kB, Skip kSkip>
Kernel wave_kernel_of(WaveKind kind) {
  switch (kind) {
    case WaveKind::square:
      return wave_kernel_of<Wave<Element, kA, kB, 1, 1, Skip::pairs>>("sm90 wave 64x64");
    case WaveKind::flat:
      return wave_kernel_of<Wave<Element, kA, kB, 1, 2, kSkip>>("sm90 wave 64x128");
    case WaveKind::tall:
      return wave_kernel_of<Wave<Element, kA, kB, 2, 1, Skip::pairs>>("sm90 wave 128x64");
    default:
      return wave_kernel_of<Wave<Element, kA, kB, 2, 4, kSkip>>("sm90 wave 128x256");
  }
}

template <class Element, Skip kSkip>
Kernel wave_kernel_of(WaveKind kind, Layout a, Layout b) {
  constexpr Layout kK = Layout::k_major, kLine = Layout::line_major;
  if (a == kK) {
    return b == kK ? wave_kernel_of<Element, kK, kK, kSkip>(kind) : wave_kernel_of<Element, kK, kLine, kSkip>(kind);
  }
  return b == kK ? wave_kernel_of<Element, kLine, kK, kSkip>(kind) : wave_kernel_of<Element, kLine, kLine, kSkip>(kind);
}

template <class Element>
Kernel wave_kernel_of(WaveKind kind, Skip skip, Layout a, Layout b) {
  return skip == Skip::rows ? wave_kernel_of<Element, Skip::rows>(kind, a, b)
                            : wave_kernel_of<Element, Skip::pairs>(kind, a, b);
}

}  // namespace maskmm::cuda::sm90
