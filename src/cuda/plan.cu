// What the host cannot know of masks on the device: whether large tiles would be mostly dead, which tiles are dead,
// which are heavy. A warp weighs a tile at a time; the last block of the launch compares the candidates and sorts the
// tiles of the best one, heaviest first, by counting. Neither choice changes a bit of the result: every kernel sums an
// element in the order of k.
#include "cuda/plan.hpp"
#include "cuda/schedule.cuh"

namespace maskmm::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
constexpr int kBuckets = 2048;
constexpr int kTilesPerWarp = 4;  // or more

struct TileWeight {
  unsigned stages;   // k blocks that are live for some part of the tile
  unsigned busiest;  // those of the block of the result that has most
};

/// A warp weighs a tile: lanes share the words for `stages` and the blocks of the result for `busiest`.
__device__ TileWeight weigh(const PlanParams& params, const Candidate& candidate, std::int64_t index) {
  const int lane = threadIdx.x % 32;
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
  const int words = static_cast<int>((params.k_blocks + 63) / 64);
  const auto all = [&](int word) {
    const std::int64_t left = params.k_blocks - word * 64;
    return left >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << left) - 1;
  };

  unsigned busiest = 0;
  bool any = false;
  for (int pair = lane; pair < rows * columns; pair += 32) {
    const int row = first_row + pair / columns, column = first_column + pair % columns;
    const std::uint64_t* out = row_of(params.live_out, row);
    if (out && !(out[column / 64] >> (column % 64) & 1)) continue;
    const std::uint64_t *lhs = row_of(params.live_lhs, row), *rhs = row_of(params.live_rhs, column);
    unsigned count = 0;
    for (int word = 0; word < words; ++word) {
      count += __popcll((lhs ? lhs[word] : ~std::uint64_t{0}) & (rhs ? rhs[word] : ~std::uint64_t{0}) & all(word));
    }
    busiest = count > busiest ? count : busiest;
    any = any || count > 0;
  }
  busiest = __reduce_max_sync(kAllLanes, busiest);
  if (!__any_sync(kAllLanes, any)) return {0, 0};

  unsigned stages = 0;
  for (int word = lane; word < words; word += 32) {
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
  return {__reduce_add_sync(kAllLanes, stages), busiest};
}

/// The whole block sorts the tiles of one candidate by weight, dead ones last.
__device__ void sort(const Candidate& candidate, std::int64_t max_weight) {
  __shared__ unsigned starts[kBuckets];
  __shared__ unsigned warp_sums[kWarps];
  constexpr int kEach = kBuckets / kThreads;
  int shift = 0;
  while (max_weight >> shift >= kBuckets - 1) ++shift;
  const auto bucket_of = [&](unsigned weight) {
    return weight == 0 ? kBuckets - 1 : kBuckets - 2 - static_cast<int>(weight >> shift);
  };
  const auto total = static_cast<unsigned>(candidate.schedule.total);
  for (int i = threadIdx.x; i < kBuckets; i += kThreads) starts[i] = 0;
  __syncthreads();
  for (unsigned i = threadIdx.x; i < total; i += kThreads) atomicAdd(&starts[bucket_of(candidate.weights[i])], 1u);
  __syncthreads();
  unsigned counts[kEach], sum = 0;
  for (int i = 0; i < kEach; ++i) sum += counts[i] = starts[threadIdx.x * kEach + i];
  unsigned up_to = sum;  // and with this thread, then warp by warp
  const int lane = threadIdx.x % 32;
  for (int step = 1; step < 32; step *= 2) {
    const unsigned before = __shfl_up_sync(kAllLanes, up_to, step);
    if (lane >= step) up_to += before;
  }
  if (lane == 31) warp_sums[threadIdx.x / 32] = up_to;
  __syncthreads();
  unsigned start = up_to - sum;
  for (int warp = 0; warp < static_cast<int>(threadIdx.x) / 32; ++warp) start += warp_sums[warp];
  for (int i = 0; i < kEach; ++i) {
    starts[threadIdx.x * kEach + i] = start;
    start += counts[i];
  }
  __syncthreads();
  if (threadIdx.x == 0) candidate.counts[0] = starts[kBuckets - 1], candidate.counts[1] = total;
  __syncthreads();
  for (unsigned i = threadIdx.x; i < total; i += kThreads) {
    candidate.tiles[atomicAdd(&starts[bucket_of(candidate.weights[i])], 1u)] = i;
  }
}

/// Whether the heaviest tile is heavier than the lightest live one by an eighth. For the whole block.
__device__ bool weights_differ(const Candidate& candidate) {
  __shared__ unsigned heaviest, lightest;
  if (threadIdx.x == 0) heaviest = 0, lightest = ~0u;
  __syncthreads();
  const auto total = static_cast<unsigned>(candidate.schedule.total);
  unsigned most = 0, least = ~0u;
  for (unsigned i = threadIdx.x; i < total; i += kThreads) {
    const unsigned weight = candidate.weights[i];
    most = weight > most ? weight : most;
    least = weight != 0 && weight < least ? weight : least;
  }
  most = __reduce_max_sync(kAllLanes, most), least = __reduce_min_sync(kAllLanes, least);
  if (threadIdx.x % 32 == 0) atomicMax(&heaviest, most), atomicMin(&lightest, least);
  __syncthreads();
  return 8ull * heaviest > 9ull * lightest;
}

/// The whole block lists the live tiles of one candidate in their order, then the others.
__device__ void list_in_order(const Candidate& candidate) {
  __shared__ unsigned warp_sums[kWarps];
  __shared__ unsigned live;
  const auto total = static_cast<unsigned>(candidate.schedule.total);
  if (threadIdx.x == 0) live = 0;
  __syncthreads();
  unsigned mine = 0;
  for (unsigned i = threadIdx.x; i < total; i += kThreads) mine += candidate.weights[i] != 0;
  mine = __reduce_add_sync(kAllLanes, mine);
  if (threadIdx.x % 32 == 0) atomicAdd(&live, mine);
  __syncthreads();
  unsigned live_before = 0;
  for (unsigned first = 0; first < total; first += kThreads) {
    const unsigned i = first + threadIdx.x;
    const bool is_live = i < total && candidate.weights[i] != 0;
    const unsigned ballot = __ballot_sync(kAllLanes, is_live);
    if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32] = __popc(ballot);
    __syncthreads();
    unsigned place = live_before + __popc(ballot & ((1u << threadIdx.x % 32) - 1));
    for (int warp = 0; warp < kWarps; ++warp) {
      if (warp < static_cast<int>(threadIdx.x) / 32) place += warp_sums[warp];
      live_before += warp_sums[warp];
    }
    if (i < total) candidate.tiles[is_live ? place : live + i - place] = i;
    __syncthreads();
  }
  if (threadIdx.x == 0) candidate.counts[0] = live, candidate.counts[1] = total;
}

__global__ void __launch_bounds__(kThreads) plan_kernel(const __grid_constant__ PlanParams params) {
  const bool scales = params.scaled != nullptr && *params.scaled != 0;
  const auto is_in_question = [&](int i) {
    return params.candidates[i].tiles != nullptr && (params.scaled == nullptr || (i == 2) == scales);
  };
  const std::int64_t step = std::int64_t{gridDim.x} * kWarps;
  for (int i = 0; i < kCandidates; ++i) {
    if (!is_in_question(i)) continue;
    const Candidate& candidate = params.candidates[i];
    const std::int64_t squares = candidate.rows / 16 * (candidate.columns / 16);
    std::uint64_t cost = 0;
    for (std::int64_t t = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / 32; t < candidate.schedule.total;
         t += step) {
      const TileWeight weight = weigh(params, candidate, t);
      if (threadIdx.x % 32 == 0) candidate.weights[t] = weight.stages + weight.busiest;
      cost += (weight.busiest * candidate.busy_cost + weight.stages * candidate.idle_cost) * squares;
    }
    if (threadIdx.x % 32 == 0 && cost != 0) {
      atomicAdd(reinterpret_cast<unsigned long long*>(candidate.cost), static_cast<unsigned long long>(cost));
    }
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

cudaError_t launch_plan(const PlanParams& params, int sms, cudaStream_t stream) {
  std::int64_t most = 1;
  for (const Candidate& candidate : params.candidates) {
    if (candidate.tiles && candidate.schedule.total > most) most = candidate.schedule.total;
  }
  const std::int64_t wanted = (most + kWarps * kTilesPerWarp - 1) / (kWarps * kTilesPerWarp);
  const auto grid = static_cast<unsigned>(wanted < sms ? wanted : sms);
  void* arguments[] = {const_cast<PlanParams*>(&params)};
  return cudaLaunchKernel(reinterpret_cast<const void*>(&plan_kernel), dim3(grid), dim3(kThreads), arguments, 0,
                          stream);
}

}  // namespace maskmm::cuda
