// The loading warp: walks the live k blocks of its tiles and has the copy engine bring what is live there.
#pragma once

#include "cuda/sm90/order.cuh"
#include "cuda/sm90/stage.cuh"
#include "cuda/sm90/tickets.cuh"
#include "cuda/sm90/walk.cuh"

namespace maskmm::cuda::sm90 {

template <class Config>
struct Loader {
  const HopperParams& params;
  const Ring<Config> ring;
  const Order<Config> order;
  Tickets<Config> tickets;

  RingPosition<Config> position{};
  Place place{};
  int inner = 0, outer = 0;  // batch coordinates
  int matrix = 0;
  unsigned columns = 0;  // columns of blocks that are in the matrix
  int4 columns_at{};     // where they are gathered

  __device__ void run() {
    const MultiplyParams& multiply = params.multiply;
    Walker<Config> walker;
    const int total = static_cast<int>(uniform(static_cast<unsigned>(order.total())));
    for (int index = tickets.first(); index < total; index = tickets.next()) {
      place = order.at(index);
      place.column += tickets.rank * kColumns;
      open_tile();
      walker.start(multiply, place);
      bool more = walker.next();
      if (!more) stage(0, 0, StageState::kLast);
      while (more) {
        int k = walker.k_block << multiply.block_k;
        const int end = min(k + (1 << multiply.block_k), static_cast<int>(multiply.k));
        const unsigned live = walker.live;
        more = walker.next();
        do {
          stage(k, live, !more && k + kBlock >= end ? StageState::kLast : 0);
          k += kBlock;
        } while (k < end);
      }
    }
    stage(0, 0, StageState::kExit);
  }

 private:
  static constexpr unsigned kWhole = 0x1f;  // all columns, by one copy

  /// What all stages of a tile share.
  __device__ void open_tile() {
    const MultiplyParams& multiply = params.multiply;
    inner = place.batch, outer = 0;
    if (multiply.batch.rank == 2) {
      outer = place.batch / static_cast<int>(multiply.batch.size[1]);
      inner -= outer * static_cast<int>(multiply.batch.size[1]);
    }
    matrix = place.batch * static_cast<int>(multiply.schedule.splits) + place.split;
    if constexpr (Config::kGathers) {
      columns_at = *reinterpret_cast<const int4*>(params.gathered.tiles[place.gathered].columns);
      columns = ((columns_at.x >= 0 ? 1 : 0) | (columns_at.y >= 0 ? 2 : 0) | (columns_at.z >= 0 ? 4 : 0) |
                 (columns_at.w >= 0 ? 8 : 0)) &
                place.columns;
      if (columns == 0) place.owned = 0;
    } else {
      const int left = static_cast<int>(multiply.n) - place.column;
      columns = left >= kColumns ? 0xf : left <= 0 ? 0 : (1u << ((left + kBlock - 1) / kBlock)) - 1;
      if (params.b_whole && columns != 0) columns = kWhole;
    }
  }

  /// Live rows and columns of blocks.
  static __device__ unsigned rows_of(unsigned live) {
    if constexpr (Config::kSkip == Skip::rows) return live;
    return (live & 0xf ? 1 : 0) | (live & 0xf0 ? 2 : 0) | (live & 0xf00 ? 4 : 0);
  }
  __device__ unsigned columns_of(unsigned live) const {
    if constexpr (Config::kSkip == Skip::pairs) return (live | live >> 4 | live >> 8) & 0xf;
    return live != 0 ? columns : 0;
  }

  __device__ int first_column(int j) const {
    if constexpr (Config::kGathers)
      return j == 0 ? columns_at.x : j == 1 ? columns_at.y : j == 2 ? columns_at.z : columns_at.w;
    return place.column + j * kBlock;
  }

  __device__ void stage(int k, unsigned live, unsigned flags) {
    ptx::barrier_wait(ring.empty(position.slot), position.parity ^ 1);
    if (threadIdx.x % 32 == 0) {
      ptx::store_shared(ring.state(position.slot),
                        make_uint4(live | place.owned << StageState::kOwned |
                                       (Config::kGathers ? columns << StageState::kColumns : 0) | flags,
                                   static_cast<unsigned>(place.row),
                                   static_cast<unsigned>(Config::kGathers ? place.gathered : place.column),
                                   static_cast<unsigned>(matrix)));
      const unsigned rows = rows_of(live), columns = columns_of(live);
      const std::uint32_t full = ring.full(position.slot);
      ptx::barrier_arrive_expecting(full, (__popc(rows) + __popc(columns & 0xf)) * kBlockBytes);
#pragma unroll
      for (int i = 0; i < Config::kRowBlocks; ++i) {
        if (rows >> i & 1) load_a(i, k, full);
      }
      const int b_inner = inner * params.b_batch.inner, b_outer = outer * params.b_batch.outer;
      if (columns == kWhole) {
        const ptx::Coordinates at = Config::kB == Layout::k_major
                                        ? ptx::Coordinates{k, place.column, 0, b_inner, b_outer}
                                        : ptx::Coordinates{0, k, place.column / kBlock, b_inner, b_outer};
        ptx::copy_box(ring.b(position.slot, 0), params.b, full, at);
      } else {
#pragma unroll
        for (int j = 0; j < kColumnBlocks; ++j) {
          const int line = first_column(j);
          const ptx::Coordinates at = Config::kB == Layout::k_major ? ptx::Coordinates{k, line, 0, b_inner, b_outer}
                                                                    : ptx::Coordinates{line, k, 0, b_inner, b_outer};
          if (columns >> j & 1) ptx::copy_box(ring.b(position.slot, j), params.b, full, at);
        }
      }
    }
    __syncwarp();
    position.next();
  }

  /// In a cluster each block brings half of a block of a, to all.
  __device__ void load_a(int i, int k, std::uint32_t full) const {
    constexpr int kPart = kBlock / Config::kCluster;
    const int a_inner = inner * params.a_batch.inner, a_outer = outer * params.a_batch.outer;
    const int line = place.row + i * kBlock, skipped = tickets.rank * kPart;
    const ptx::Coordinates at = Config::kA == Layout::k_major
                                    ? ptx::Coordinates{k, line + skipped, 0, a_inner, a_outer}
                                    : ptx::Coordinates{line, k + skipped, 0, a_inner, a_outer};
    const std::uint32_t to = ring.a(position.slot, i) + skipped * 128;
    if constexpr (Config::kCluster > 1) {
      ptx::copy_box_to_all(to, params.a, full, at, (1 << Config::kCluster) - 1);
    } else {
      ptx::copy_box(to, params.a, full, at);
    }
  }
};

}  // namespace maskmm::cuda::sm90
