// What the host cannot know of masks on the device: whether large tiles would be mostly dead, which tiles are dead,
// which are heavy. A few lanes weigh a tile; the last block of the launch compares the candidates and sorts the tiles
// of the best one, heaviest first, by counting. Neither choice changes a bit of the result: every kernel sums an
// element in the order of k.
#include "cuda/early.cuh"
#include "cuda/plan.hpp"
#include "cuda/schedule.cuh"

namespace maskmm::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
constexpr int kBuckets = 2048;
constexpr int kWordsPerLane = 2;  // of bits, that a lane reads in turn

struct TileWeight {
  unsigned stages;   // k blocks that are live for some part of the tile
  unsigned busiest;  // those of the block of the result that has most
};

/// Blocks of a tile along an axis, given the log2 of the block's extent.
__host__ __device__ inline int blocks_of(int tile, int block_shift) {
  return tile >> block_shift > 0 ? tile >> block_shift : 1;
}

__host__ __device__ inline int words_of(const PlanParams& params) {
  return static_cast<int>((params.k_blocks + 63) / 64);
}

/// Lanes that weigh one tile of this candidate: a power of 2, as many as have words to read.
__host__ __device__ inline int lanes_of(const PlanParams& params, const Candidate& candidate) {
  const std::int64_t words = std::int64_t{blocks_of(candidate.rows, params.block_m)} *
                             blocks_of(candidate.columns, params.block_n) * words_of(params);
  int lanes = 1;
  while (lanes < 32 && words > std::int64_t{kWordsPerLane} * lanes) lanes *= 2;
  return lanes;
}

/// Parts of this candidate's tiles that a thread block weighs at a time.
__host__ __device__ inline int parts_of(const PlanParams& params, const Candidate& candidate) {
  const int lanes = lanes_of(params, candidate);
  return static_cast<int>((candidate.schedule.total * lanes + kThreads - 1) / kThreads);
}

/// `lanes` lanes weigh a tile: they share the blocks of the result for `busiest` and the words for `stages`. For whole
/// warps, whose groups of lanes have tiles of their own.
__device__ TileWeight weigh(const PlanParams& params, const Candidate& candidate, std::int64_t index, int lanes) {
  const int lane = threadIdx.x % lanes;
  const Tile tile = tile_at(candidate.schedule, index, candidate.rows, candidate.columns);
  const int first_row = static_cast<int>(tile.row >> params.block_m);
  const int first_column = static_cast<int>(tile.column >> params.block_n);
  const int rows =
      static_cast<int>((smaller(tile.row + candidate.rows, params.m) - 1) >> params.block_m) - first_row + 1;
  const int columns =
      static_cast<int>((smaller(tile.column + candidate.columns, params.n) - 1) >> params.block_n) - first_column + 1;
  const auto row_of = [&](const BitRows& bits, int row) {
    return bits.words ? bits.words + tile.batch * bits.words_per_batch + row * bits.words_per_row : nullptr;
  };
  const int words = words_of(params);
  const auto all = [&](int word) {
    const std::int64_t left = params.k_blocks - word * 64;
    return left >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << left) - 1;
  };

  unsigned busiest = 0;
  for (int row = 0, column = lane; row < rows; column += lanes) {
    while (column >= columns && row < rows) column -= columns, ++row;
    if (row >= rows) break;
    const std::uint64_t* out = row_of(params.live_out, first_row + row);
    const int at = first_column + column;
    if (out && !(out[at / 64] >> (at % 64) & 1)) continue;
    const std::uint64_t *lhs = row_of(params.live_lhs, first_row + row), *rhs = row_of(params.live_rhs, at);
    unsigned count = 0;
    for (int word = 0; word < words; ++word) {
      count += __popcll((lhs ? lhs[word] : ~std::uint64_t{0}) & (rhs ? rhs[word] : ~std::uint64_t{0}) & all(word));
    }
    busiest = count > busiest ? count : busiest;
  }
  for (int step = lanes / 2; step > 0; step /= 2) {
    const unsigned other = __shfl_xor_sync(kAllLanes, busiest, step);
    busiest = other > busiest ? other : busiest;
  }

  unsigned stages = 0;
  for (int word = lane; busiest != 0 && word < words; word += lanes) {
    std::uint64_t lhs = 0, rhs = 0;
    for (int i = 0; i < rows; ++i) {
      const std::uint64_t* bits = row_of(params.live_lhs, first_row + i);
      lhs |= bits ? bits[word] : ~std::uint64_t{0};
    }
    for (int i = 0; i < columns; ++i) {
      const std::uint64_t* bits = row_of(params.live_rhs, first_column + i);
      rhs |= bits ? bits[word] : ~std::uint64_t{0};
    }
    stages += __popcll(lhs & rhs & all(word));
  }
  for (int step = lanes / 2; step > 0; step /= 2) stages += __shfl_xor_sync(kAllLanes, stages, step);
  return {stages, busiest};
}

/// Part `part` of a candidate's tiles, by the whole block.
__device__ void weigh_part(const PlanParams& params, const Candidate& candidate, int part) {
  const int lanes = lanes_of(params, candidate), each = kThreads / lanes;
  const std::int64_t index = std::int64_t{part} * each + threadIdx.x / lanes, total = candidate.schedule.total;
  const TileWeight weight = weigh(params, candidate, index < total ? index : total - 1, lanes);
  std::uint64_t cost = 0;
  if (index < total && threadIdx.x % lanes == 0) {
    const std::int64_t squares = candidate.rows / 16 * (candidate.columns / 16);
    candidate.weights[index] = weight.stages + weight.busiest;
    cost = (std::uint64_t{weight.busiest} * candidate.busy_cost + std::uint64_t{weight.stages} * candidate.idle_cost) *
           squares;
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) cost += __shfl_xor_sync(kAllLanes, cost, step);
  if (threadIdx.x % 32 == 0 && cost != 0) {
    atomicAdd(reinterpret_cast<unsigned long long*>(candidate.cost), static_cast<unsigned long long>(cost));
  }
}

/// For each thread the sum over those before it, and over all. For the whole block.
__device__ unsigned sum_before(unsigned mine, unsigned& of_all) {
  __shared__ unsigned warp_sums[kWarps];
  const int lane = threadIdx.x % 32;
  unsigned up_to = mine;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const unsigned before = __shfl_up_sync(kAllLanes, up_to, step);
    if (lane >= step) up_to += before;
  }
  if (lane == 31) warp_sums[threadIdx.x / 32] = up_to;
  __syncthreads();
  unsigned before = up_to - mine;
  of_all = 0;
#pragma unroll
  for (int warp = 0; warp < kWarps; ++warp) {
    if (warp < static_cast<int>(threadIdx.x) / 32) before += warp_sums[warp];
    of_all += warp_sums[warp];
  }
  __syncthreads();
  return before;
}

/// Calls `call(tile, weight, inside)` for this thread's tiles, warps as a whole: neighbouring lanes have neighbouring
/// tiles. The weights of eight are read before the first call.
template <class Call>
__device__ void for_each_weight(const Candidate& candidate, Call call) {
  constexpr unsigned kEach = 8;
  const auto total = static_cast<unsigned>(candidate.schedule.total);
  for (unsigned base = 0; base < total; base += kEach * kThreads) {
    const unsigned first = base + threadIdx.x;
    unsigned weights[kEach];
#pragma unroll
    for (unsigned i = 0; i < kEach; ++i) {
      weights[i] = first + i * kThreads < total ? candidate.weights[first + i * kThreads] : 0;
    }
#pragma unroll
    for (unsigned i = 0; i < kEach; ++i) {
      if (base + i * kThreads >= total) break;
      call(first + i * kThreads, weights[i], first + i * kThreads < total);
    }
  }
}

/// Shared memory for one thing at a time.
__device__ unsigned* scratch() {
  constexpr int kMost = kMostTilesToPlan / 32;
  __shared__ unsigned words[kMost > kBuckets ? kMost : kBuckets];
  return words;
}

/// The whole block sorts the tiles of one candidate by weight, dead ones last.
__device__ void sort(const Candidate& candidate, std::int64_t max_weight) {
  unsigned* const starts = scratch();
  constexpr int kEach = kBuckets / kThreads;
  int shift = 0;
  while (max_weight >> shift >= kBuckets - 1) ++shift;
  const auto bucket_of = [&](unsigned weight) {
    return weight == 0 ? kBuckets - 1 : kBuckets - 2 - static_cast<int>(weight >> shift);
  };
  for (int i = threadIdx.x; i < kBuckets; i += kThreads) starts[i] = 0;
  __syncthreads();
  for_each_weight(candidate, [&](unsigned, unsigned weight, bool inside) {
    if (inside) atomicAdd(&starts[bucket_of(weight)], 1u);
  });
  __syncthreads();
  unsigned counts[kEach], sum = 0, all;
  for (int i = 0; i < kEach; ++i) sum += counts[i] = starts[threadIdx.x * kEach + i];
  unsigned start = sum_before(sum, all);
  for (int i = 0; i < kEach; ++i) {
    starts[threadIdx.x * kEach + i] = start;
    start += counts[i];
  }
  __syncthreads();
  if (threadIdx.x == 0) candidate.counts[0] = starts[kBuckets - 1], candidate.counts[1] = all;
  __syncthreads();
  for_each_weight(candidate, [&](unsigned tile, unsigned weight, bool inside) {
    if (inside) candidate.tiles[atomicAdd(&starts[bucket_of(weight)], 1u)] = tile;
  });
}

/// Whether the heaviest tile is heavier than the lightest live one by an eighth. For the whole block.
__device__ bool weights_differ(const Candidate& candidate) {
  __shared__ unsigned heaviest, lightest;
  if (threadIdx.x == 0) heaviest = 0, lightest = ~0u;
  __syncthreads();
  unsigned most = 0, least = ~0u;
  for_each_weight(candidate, [&](unsigned, unsigned weight, bool) {
    most = weight > most ? weight : most;
    least = weight != 0 && weight < least ? weight : least;
  });
  most = __reduce_max_sync(kAllLanes, most), least = __reduce_min_sync(kAllLanes, least);
  if (threadIdx.x % 32 == 0) atomicMax(&heaviest, most), atomicMin(&lightest, least);
  __syncthreads();
  return 8ull * heaviest > 9ull * lightest;
}

/// The whole block lists the live tiles of one candidate in their order, then the others.
__device__ void list_in_order(const Candidate& candidate) {
  const auto total = static_cast<unsigned>(candidate.schedule.total);
  unsigned* const before = scratch();  // live tiles before each 32
  for_each_weight(candidate, [&](unsigned tile, unsigned weight, bool inside) {
    const unsigned ballot = __ballot_sync(kAllLanes, inside && weight != 0);
    if (threadIdx.x % 32 == 0 && inside) before[tile / 32] = __popc(ballot);
  });
  __syncthreads();
  const unsigned words = (total + 31) / 32, each = (words + kThreads - 1) / kThreads;
  const unsigned first = min(threadIdx.x * each, words), end = min(first + each, words);
  unsigned mine = 0, live;
  for (unsigned i = first; i < end; ++i) mine += before[i];
  unsigned place = sum_before(mine, live);
  for (unsigned i = first; i < end; ++i) {
    const unsigned count = before[i];
    before[i] = place;
    place += count;
  }
  __syncthreads();
  for_each_weight(candidate, [&](unsigned tile, unsigned weight, bool inside) {
    const bool is_live = inside && weight != 0;
    const unsigned ballot = __ballot_sync(kAllLanes, is_live);
    if (!inside) return;
    const unsigned at = before[tile / 32] + __popc(ballot & ((1u << threadIdx.x % 32) - 1));
    candidate.tiles[is_live ? at : live + tile - at] = tile;
  });
  if (threadIdx.x == 0) candidate.counts[0] = live, candidate.counts[1] = total;
}

__global__ void __launch_bounds__(kThreads) plan_kernel(const __grid_constant__ PlanParams params) {
  ptx::let_next_launch_start();
  ptx::wait_for_launches_before();
  const bool scales = params.scaled != nullptr && *params.scaled != 0;
  const auto is_in_question = [&](int i) {
    return params.candidates[i].tiles != nullptr && (params.scaled == nullptr || (i == 2) == scales);
  };
  for (int unit = static_cast<int>(blockIdx.x);; unit += static_cast<int>(gridDim.x)) {
    int part = unit, candidate = 0;
    for (; candidate < kCandidates; ++candidate) {
      const int parts = is_in_question(candidate) ? parts_of(params, params.candidates[candidate]) : 0;
      if (part < parts) break;
      part -= parts;
    }
    if (candidate == kCandidates) break;
    weigh_part(params, params.candidates[candidate], part);
  }
  __shared__ bool is_last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) is_last = atomicAdd(params.finished, 1u) == gridDim.x - 1;
  __syncthreads();
  if (!is_last) return;
  __threadfence();
  int best = -1;
  for (int i = 0; i < kCandidates; ++i) {
    if (!is_in_question(i)) continue;
    if (best < 0 || *params.candidates[i].cost < *params.candidates[best].cost) best = i;
  }
  for (int i = 0; i < kCandidates; ++i) {
    if (params.candidates[i].tiles == nullptr || i == best) continue;
    if (threadIdx.x < 2) params.candidates[i].counts[threadIdx.x] = 0;
  }
  if (params.candidates[best].sorts && weights_differ(params.candidates[best])) {
    sort(params.candidates[best], 2 * params.k_blocks);
  } else {
    list_in_order(params.candidates[best]);
  }
}

}  // namespace

cudaError_t launch_plan(const PlanParams& params, int sms, cudaStream_t stream, Start how) {
  int parts = 0;
  for (const Candidate& candidate : params.candidates) {
    if (candidate.tiles) parts += parts_of(params, candidate);
  }
  const auto grid = static_cast<unsigned>(parts < sms ? parts : sms);
  void* arguments[] = {const_cast<PlanParams*>(&params)};
  return start(reinterpret_cast<const void*>(&plan_kernel), grid, kThreads, 0, arguments, stream, how);
}

}  // namespace maskmm::cuda
