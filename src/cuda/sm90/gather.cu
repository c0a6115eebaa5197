// The tiles of gathered columns, from mask_out's bits: a warp for each row of tiles sorts its columns of blocks by the
// rows that keep them.
#include "cuda/early.cuh"
#include "cuda/sm90/gather.hpp"
#include "cuda/sm90/kept.cuh"
#include "cuda/start.hpp"

namespace maskmm::cuda::sm90 {
namespace {

constexpr int kThreads = 128;
constexpr int kSets = 1 << kGatheredRows;

/// Where a set's last columns, fewer than a tile has, lie in the tile of a set that holds more rows: that way they cost
/// next to nothing. Four bits a set.
struct Rides {
  unsigned host = 0, from = 0;

  static __device__ unsigned get(unsigned packed, int set) { return packed >> (4 * set) & 0xf; }

  /// `left`: how many such columns each set has; those that ride are added to their host's.
  __device__ void choose(unsigned& left) {
#pragma unroll
    for (int rows = 1; rows < kGatheredRows; ++rows) {
#pragma unroll
      for (int set = 1; set < kSets - 1; ++set) {
        if (__popc(set) != rows) continue;
#pragma unroll
        for (int larger = 1; larger < kSets; ++larger) {
          if ((larger & set) != set || larger == set) continue;
          const unsigned mine = get(left, set), there = get(left, larger);
          if (mine == 0 || there == 0 || mine + there > kColumnBlocks) continue;
          host |= larger << (4 * set), from |= there << (4 * set);
          left += mine << (4 * larger);
          left -= mine << (4 * set);
        }
      }
    }
  }

  /// The host of a set, itself where it does not ride, and the first column there.
  __device__ int final_host(int set, unsigned& first) const {
    first = 0;
    while (get(host, set) != 0) {
      first += get(from, set);
      set = static_cast<int>(get(host, set));
    }
    return set;
  }
};

__global__ void __launch_bounds__(kThreads) gather_kernel(const __grid_constant__ MultiplyParams p, const Gathered to) {
  cuda::ptx::let_next_launch_start();
  cuda::ptx::wait_for_launches_before();
  const int lane = threadIdx.x % 32;
  const int tiles_m = static_cast<int>((p.m + kGatheredRows * kBlock - 1) / (kGatheredRows * kBlock));
  const int columns = static_cast<int>((p.n + kBlock - 1) / kBlock);
  const std::int64_t line = std::int64_t{blockIdx.x} * (kThreads / 32) + threadIdx.x / 32;
  if (line >= p.batch_size * tiles_m) return;
  const auto batch = static_cast<int>(line / tiles_m);
  const int row = static_cast<int>(line - std::int64_t{batch} * tiles_m) * (kGatheredRows * kBlock);

  /// The rows that keep a column, as bits.
  const auto set_of = [&](int column) {
    unsigned set = 0;
    if (column < columns) {
#pragma unroll
      for (int i = 0; i < kGatheredRows; ++i) {
        const int element = row + i * kBlock;
        if (element >= p.m) break;
        set |= unsigned{keeps_some(p, batch, element, column * kBlock)} << i;
      }
    }
    return set;
  };

  // Lane s counts set s.
  int count = 0;
  for (int base = 0; base < columns; base += 32) {
    const unsigned set = set_of(base + lane);
#pragma unroll
    for (int s = 1; s < kSets; ++s) {
      const int found = __popc(__ballot_sync(0xffffffffu, set == s));
      if (lane == s) count += found;
    }
  }
  unsigned left = 0;
#pragma unroll
  for (int s = 1; s < kSets; ++s) left |= (__shfl_sync(0xffffffffu, count, s) % kColumnBlocks) << (4 * s);
  Rides rides;
  if (p.live_lhs.words == nullptr) rides.choose(left);  // or a column would be read for rows that are dead there
  const int full = count / kColumnBlocks, list = kGatheredRows - __popc(lane);
  int first = 0;  // tile of the set
  if (lane > 0 && lane < kSets) {
    const int last = static_cast<int>(Rides::get(left, lane)), tiles = full + (last > 0 ? 1 : 0);
    if (tiles > 0)
      first = static_cast<int>(atomicAdd(&to.counts[list], static_cast<unsigned>(tiles))) + list * to.capacity;
    for (int i = last; last > 0 && i < kColumnBlocks; ++i) to.tiles[first + full].columns[i] = -1;
  }

  int before = 0;  // columns of set `lane` that were placed
  for (int base = 0; base < columns; base += 32) {
    const unsigned set = set_of(base + lane);
    int found_of_mine = 0, place = 0;
#pragma unroll
    for (int s = 1; s < kSets; ++s) {
      const unsigned found = __ballot_sync(0xffffffffu, set == s);
      if (set == s) place = __popc(found & ((1u << lane) - 1));
      if (lane == s) found_of_mine = __popc(found);
    }
    place += __shfl_sync(0xffffffffu, before, static_cast<int>(set));
    const int of_set = __shfl_sync(0xffffffffu, full, static_cast<int>(set));
    unsigned skipped = 0;
    const int host =
        place / kColumnBlocks < of_set ? static_cast<int>(set) : rides.final_host(static_cast<int>(set), skipped);
    const int host_full = __shfl_sync(0xffffffffu, full, host), host_first = __shfl_sync(0xffffffffu, first, host);
    if (set != 0) {
      const int in_tile = place % kColumnBlocks + static_cast<int>(skipped);
      GatheredTile& entry = to.tiles[host_first + (place / kColumnBlocks < of_set ? place / kColumnBlocks : host_full)];
      entry.columns[in_tile] = (base + lane) * kBlock + static_cast<int>(set);
      if (in_tile == 0) entry.row = row, entry.owned = set, entry.batch = batch;
    }
    before += found_of_mine;
  }
}

}  // namespace

cudaError_t launch_gather(const MultiplyParams& params, const Gathered& to, cudaStream_t stream) {
  const std::int64_t lines = params.batch_size * ((params.m + kGatheredRows * kBlock - 1) / (kGatheredRows * kBlock));
  const auto blocks = static_cast<unsigned>((lines + kThreads / 32 - 1) / (kThreads / 32));
  void* arguments[] = {const_cast<MultiplyParams*>(&params), const_cast<Gathered*>(&to)};
  return start(reinterpret_cast<const void*>(&gather_kernel), blocks, kThreads, 0, arguments, stream, Start::early);
}

}  // namespace maskmm::cuda::sm90
