// float16 and bfloat16 where the result has at most 16 or 64 rows: every live block of b is read once, at the speed of
// memory.
//
// Roles: a thread block has 64 columns of the result (one part of a split k). It lists the live k blocks of its columns
// from the masks' bytes; its warps then take units of 16 or 32 of k in turn, each with sums of its own for the whole
// tile, which are added up in shared memory in the order of the warps. The order of k within a unit and of columns
// within a tile is the one in which 16-byte reads deliver them; fragments of a are read in the same order. Limits: only
// bool masks; block_n >= 64 (a unit has one block column), block_k >= the unit; n, k, and the strides of a and b
// multiples of 16 bytes; a's k contiguous. Design: docs/design/cuda.md.
#pragma once

#include "cuda/epilogue.cuh"
#include "cuda/sm80/few_rows.hpp"
#include "cuda/sm80/ptx.cuh"

namespace maskmm::cuda::sm80 {

constexpr int kFewRowsListed = 1024;  // k blocks that are listed at a time

template <class Element, Layout kLayoutB, int kRows>
struct FewRows {
  static constexpr int kSets = kRows / 16;  // of 16 rows, which share what is read of b
  static constexpr int kWarps = kSets == 1 ? 16 : 8;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kSteps = kLayoutB == Layout::line_major ? 1 : 2;  // of 16 of k in a unit
  static constexpr int kUnitK = 16 * kSteps;
  static constexpr int kUnits = (kSets == 1 ? 4 : 2) / kSteps;  // that a warp has under way
  static constexpr int kPitch = kFewRowsColumns + 8;            // of a row of sums: a warp's stores meet no bank twice
  static constexpr int kSharedBytes = kWarps * kRows * kPitch * 4;
  using Sums = float[kSets][8][4];

  /// What one lane has of a unit: 16 bytes of b for each of 4 (8) rows of k (groups of 8 columns); a's part.
  struct Unit {
    uint4 b[4 * kSteps];
    unsigned a[kSets][kSteps][4];
  };

  const FewRowsParams& params;
  const std::byte* a;  // of row g
  const std::byte* b;  // of the tile's first column
  int columns_left;
  int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;

  __device__ void load(Unit& unit, std::int64_t k) const {
    const bool inside = k + t * 4 * kSteps < params.k;
    const uint4 zeros = make_uint4(0, 0, 0, 0);
    if constexpr (kLayoutB == Layout::line_major) {
      const std::byte* from = b + (k + 4 * t) * params.b.k_stride + g * 16;
      const bool there = inside && g < columns_left / 8;
#pragma unroll
      for (int r = 0; r < 4; ++r) unit.b[r] = there ? ptx::read_once(from + r * params.b.k_stride) : zeros;
    } else {
      const std::byte* from = b + g * params.b.line_stride + (k + 8 * t) * 2;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const bool there = inside && g + 8 * j < columns_left;
        unit.b[j] = there ? ptx::read_once(from + 8 * j * params.b.line_stride) : zeros;
      }
    }
#pragma unroll
    for (int row = 0; row < kRows; row += 8) {
      unsigned (&to)[kSteps][4] = unit.a[row / 16];
      const int half = row / 8 % 2;
      const bool there = inside && g + row < params.m;
      const std::byte* from = a + row * params.a.line_stride + (k + t * 4 * kSteps) * 2;
      if constexpr (kSteps == 1) {
        const uint2 v = there ? *reinterpret_cast<const uint2*>(from) : make_uint2(0, 0);
        to[0][half] = v.x, to[0][half + 2] = v.y;
      } else {
        const uint4 v = there ? *reinterpret_cast<const uint4*>(from) : zeros;
        to[0][half] = v.x, to[0][half + 2] = v.y;
        to[1][half] = v.z, to[1][half + 2] = v.w;
      }
    }
  }

  __device__ static unsigned word(const uint4& v, int i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }

  /// The fragments of two tiles of 8 columns: 2 j and 2 j + 1.
  __device__ static void fragments(const Unit& unit, int step, int j, unsigned (&to)[4]) {
    if constexpr (kLayoutB == Layout::line_major) {
      const unsigned rows[4] = {word(unit.b[0], j), word(unit.b[1], j), word(unit.b[2], j), word(unit.b[3], j)};
      to[0] = __byte_perm(rows[0], rows[1], 0x5410), to[1] = __byte_perm(rows[2], rows[3], 0x5410);
      to[2] = __byte_perm(rows[0], rows[1], 0x7632), to[3] = __byte_perm(rows[2], rows[3], 0x7632);
    } else {
      to[0] = word(unit.b[2 * j], 2 * step), to[1] = word(unit.b[2 * j], 2 * step + 1);
      to[2] = word(unit.b[2 * j + 1], 2 * step), to[3] = word(unit.b[2 * j + 1], 2 * step + 1);
    }
  }

  __device__ static void multiply(const Unit& unit, Sums& sums) {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        unsigned fragment[4];
        fragments(unit, step, j, fragment);
#pragma unroll
        for (int set = 0; set < kSets; ++set) {
          ptx::multiply_16x16x16<Element>(sums[set][2 * j], sums[set][2 * j + 1], unit.a[set][step], fragment);
        }
      }
    }
  }

  /// The column of the tile that column `c` of tile j of 8 belongs to, place = 8 j + c.
  __device__ static int column_of(int place) {
    return kLayoutB == Layout::line_major ? place % 8 * 8 + place / 8 : place;
  }
};

/// Lists the k blocks [begin, end) that are live for these columns; the list's length. For the whole thread block.
template <int kThreads>
__device__ int list_live(const FewRowsParams& params, const Tile& tile, int begin, int end, int* list) {
  __shared__ int warp_counts[kThreads / 32];
  const auto start = [&](const MaskParams& mask) {
    return mask.data ? mask.data + batch_offset(params.batch, mask.batch, tile.batch) : nullptr;
  };
  const std::byte *out = start(params.mask_out), *lhs = start(params.mask_lhs), *rhs = start(params.mask_rhs);
  const std::int64_t block_column = tile.column >> params.block_n;
  if (rhs) rhs += block_column * params.mask_rhs.row_stride;
  const bool kept = !out || out[block_column * params.mask_out.col_stride] != std::byte{0};
  int length = 0;
  for (int first = begin; first < end; first += kThreads) {
    const int k_block = first + static_cast<int>(threadIdx.x);
    const bool live = kept && k_block < end && (!rhs || rhs[k_block * params.mask_rhs.col_stride] != std::byte{0}) &&
                      (!lhs || lhs[k_block * params.mask_lhs.col_stride] != std::byte{0});
    const unsigned ballot = __ballot_sync(kAllLanes, live);
    if (threadIdx.x % 32 == 0) warp_counts[threadIdx.x / 32] = __popc(ballot);
    __syncthreads();
    int place = length;
    for (int warp = 0; warp < kThreads / 32; ++warp) {
      if (warp < static_cast<int>(threadIdx.x) / 32) place += warp_counts[warp];
      length += warp_counts[warp];
    }
    if (live) list[place + __popc(ballot & ((1u << threadIdx.x % 32) - 1))] = k_block;
    __syncthreads();
  }
  return length;
}

template <class Element, Layout kLayoutB, int kRows>
__global__ void __launch_bounds__(FewRows<Element, kLayoutB, kRows>::kThreads, 1)
    few_rows_kernel(const __grid_constant__ FewRowsParams params) {
  using Work = FewRows<Element, kLayoutB, kRows>;
  extern __shared__ __align__(16) std::byte shared[];
  __shared__ int list[kFewRowsListed];
  const int warp = threadIdx.x / 32;
  for (std::int64_t index = blockIdx.x; index < params.schedule.total; index += gridDim.x) {
    const Tile tile = tile_at(params.schedule, index, kRows, kFewRowsColumns);
    Work work{params};
    work.a = params.a.data + batch_offset(params.batch, params.a.batch, tile.batch) + work.g * params.a.line_stride;
    work.b =
        params.b.data + batch_offset(params.batch, params.b.batch, tile.batch) + tile.column * params.b.line_stride;
    work.columns_left = static_cast<int>(smaller(params.n - tile.column, kFewRowsColumns));

    typename Work::Sums sums = {};
    bool any = false;
    const int begin = static_cast<int>(tile.split * params.schedule.blocks_per_split);
    const int end = static_cast<int>(smaller(begin + params.schedule.blocks_per_split, params.k_blocks));
    const int unit_shift = params.block_k - (Work::kUnitK == 16 ? 4 : 5);  // log2 of the units in a block
    for (int first = begin; first < end; first += kFewRowsListed) {
      const int length =
          list_live<Work::kThreads>(params, tile, first, static_cast<int>(smaller(first + kFewRowsListed, end)), list);
      any = any || length > 0;
      const int units = length << unit_shift;
      typename Work::Unit held[Work::kUnits];
      for (int u = warp; u < units; u += Work::kWarps * Work::kUnits) {
#pragma unroll
        for (int i = 0; i < Work::kUnits; ++i) {
          const int unit = u + i * Work::kWarps, in_block = unit & ((1 << unit_shift) - 1);
          work.load(held[i], unit < units
                                 ? (std::int64_t{list[unit >> unit_shift]} << params.block_k) + in_block * Work::kUnitK
                                 : params.k);
        }
#pragma unroll
        for (int i = 0; i < Work::kUnits; ++i) Work::multiply(held[i], sums);
      }
      __syncthreads();  // the list is made anew
    }

    auto* all = reinterpret_cast<float*>(shared);
    constexpr int kWarpSums = kRows * Work::kPitch;
    float* mine = all + warp * kWarpSums + work.g * Work::kPitch + 2 * work.t;
    const int rows = static_cast<int>(params.m);
#pragma unroll
    for (int row = 0; row < kRows; row += 8) {
      if (row >= rows) break;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float (&pair)[4] = sums[row / 16][j];
        *reinterpret_cast<float2*>(mine + row * Work::kPitch + j * 8) =
            row % 16 == 0 ? make_float2(pair[0], pair[1]) : make_float2(pair[2], pair[3]);
      }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < rows * kFewRowsColumns; i += Work::kThreads) {
      const int row = i / kFewRowsColumns, place = i % kFewRowsColumns, column = Work::column_of(place);
      if (column >= work.columns_left) continue;
      const float* parts = all + row * Work::kPitch + place;
      float sum = parts[0];
#pragma unroll
      for (int w = 1; w < Work::kWarps; ++w) sum += parts[w * kWarpSums];
      if (params.partial) {  // -0: see Epilogue
        params.partial[((tile.split * params.batch_size + tile.batch) * params.m + row) * params.n + tile.column +
                       column] = any ? sum + 0.0f : -0.0f;
        continue;
      }
      Element element;
      convert(sum, element);
      std::byte* to = params.out.data + batch_offset(params.batch, params.out.batch, tile.batch) +
                      row * params.out.row_stride + (tile.column + column) * params.out.col_stride;
      if (params.out.aligned) {
        *reinterpret_cast<Element*>(to) = element;
      } else {
        memcpy(to, &element, sizeof element);
      }
    }
    __syncthreads();  // shared memory is used anew
  }
}

template <class Element, Layout kLayoutB, int kRows>
FewRowsKernel few_rows_kernel_of(const char* name) {
  using Work = FewRows<Element, kLayoutB, kRows>;
  return {reinterpret_cast<const void*>(&few_rows_kernel<Element, kLayoutB, kRows>), name, kRows, Work::kThreads,
          Work::kSharedBytes};
}

}  // namespace maskmm::cuda::sm80
