// A loading warp: walks the live k blocks of the tiles and has the copy engine bring what is live there. Where there
// are several, all walk alike, and each fills the slots of the ring that are its own.
#pragma once

#include "cuda/sm90/order.cuh"
#include "cuda/sm90/pace.cuh"
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
  int slices = 0;        // of the stage, so far
  int first_k = 0;       // its first slice
  unsigned first_live = 0;
  const float* scales = nullptr;  // of this lane's line, as in Walker; null: 1

  __device__ void run() {
    const MultiplyParams& multiply = params.multiply;
    Walker<Config> walker;
    const int part_blocks = (static_cast<int>(multiply.k_blocks) + kPaceParts - 1) / kPaceParts;
    Pace pace{nullptr, part_blocks};
    if constexpr (Config::kGathers) {
      if (tickets.warp == 0 && order.needs_pace()) pace.passed = params.gathered.pace;
    }
    constexpr bool kDot = Config::kFinish == Finish::dot;
    const int total = static_cast<int>(uniform(static_cast<unsigned>(order.total())));
    for (int index = tickets.first(); index < total; index = tickets.next()) {
      place = order.at(index);
      place.column += tickets.rank * Config::kColumns;
      open_tile();
      if constexpr (Config::kGathers) pace.open(index, total, tickets.workers());
      walker.start(multiply, place);
      bool more = walker.next();
      const bool is_live = more;
      if (!more) slice(0, 0, StageState::kLast);
      while (more) {
        if constexpr (Config::kGathers) pace.enter(walker.k_block);
        pass_others(walker);
        int k = walker.k_block << multiply.block_k;
        const int end = min(k + (1 << multiply.block_k), static_cast<int>(multiply.k));
        const unsigned live = walker.live;
        more = walker.next();
        do {
          slice(k, live, !kDot && !more && k + Config::kBlock >= end ? StageState::kLast : 0);
          k += Config::kBlock;
        } while (k < end);
      }
      if constexpr (Config::kGathers) pace.close();
      if constexpr (kDot) {
        if (is_live) x_stages(walker.seen(columns & kAllColumns));
      }
    }
    slice(0, 0, StageState::kExit);
  }

 private:
  static constexpr unsigned kAllRows = (1u << Config::kRowBlocks) - 1, kAllColumns = (1u << Config::kColumnBlocks) - 1;
  static constexpr unsigned kWhole = 0x80;  // all columns, by one copy
  static constexpr int kWidth = Config::kColumnWidth;

  /// What all stages of a tile share.
  __device__ void open_tile() {
    const MultiplyParams& multiply = params.multiply;
    inner = place.batch, outer = 0;
    if (multiply.batch.rank == 2) {
      outer = place.batch / static_cast<int>(multiply.batch.size[1]);
      inner -= outer * static_cast<int>(multiply.batch.size[1]);
    }
    matrix = place.batch * static_cast<int>(multiply.schedule.splits) + place.split;
    if constexpr (Config::kMasks == Masks::scaling) open_scales();
    if constexpr (Config::kGathers) {
      columns_at = *reinterpret_cast<const int4*>(params.gathered.tiles[place.gathered].columns);
      columns = ((columns_at.x >= 0 ? 1 : 0) | (columns_at.y >= 0 ? 2 : 0) | (columns_at.z >= 0 ? 4 : 0) |
                 (columns_at.w >= 0 ? 8 : 0)) &
                place.columns;
      if (columns == 0) place.owned = 0;
    } else {
      const int left = static_cast<int>(multiply.n) - place.column;
      columns = left >= Config::kColumns ? kAllColumns : left <= 0 ? 0 : (1u << ((left + kWidth - 1) / kWidth)) - 1;
      if (params.b_whole && columns != 0) columns = kAllColumns | kWhole;
    }
  }

  /// How many stages from here the next one that this warp fills is.
  __device__ int others() const { return (tickets.warp - position.slot) & (Config::kLoaders - 1); }

  /// Leaves other warps' slices to them, as far as they can be passed at once.
  __device__ void pass_others(Walker<Config>& walker) {
    if (others() == 0 || 1 << params.multiply.block_k != Config::kBlock) return;
    slices += walker.skip(others() * Config::kSlices - slices);
    position.next(slices / Config::kSlices);
    slices %= Config::kSlices;
  }

  /// Live rows and columns of blocks.
  static __device__ unsigned rows_of(unsigned live) {
    if constexpr (Config::kSkip == Skip::rows) return live;
    if constexpr (kPairs32<Config>) return (live | live >> Pairs32::kRows | live >> (2 * Pairs32::kRows)) & kAllRows;
    return (live & 0xf ? 1 : 0) | (live & 0xf0 ? 2 : 0) | (live & 0xf00 ? 4 : 0);
  }
  __device__ unsigned columns_of(unsigned live) const {
    if constexpr (kPairs32<Config>) {
      live = live >> Pairs32::kFirstColumn & kAllColumns;
      return live == kAllColumns ? live | (columns & kWhole) : live;
    }
    if (Config::kSkip == Skip::pairs && !(columns & kWhole)) return (live | live >> 4 | live >> 8) & 0xf;
    return live != 0 ? columns : 0;
  }

  __device__ int first_column(int j) const {
    if constexpr (Config::kGathers)
      return (j == 0 ? columns_at.x : j == 1 ? columns_at.y : j == 2 ? columns_at.z : columns_at.w) & ~(kBlock - 1);
    return place.column + j * kWidth;
  }

  /// One slice; the last of a stage closes it, and so do `flags`. A stage is filled at once, so that between a slot
  /// that comes free and the last copy into it there is nothing else.
  __device__ void slice(int k, unsigned live, unsigned flags) {
    if (slices + 1 < Config::kSlices && flags == 0) {
      first_k = k, first_live = live, slices = 1;
      return;
    }
    if (others() == 0) {
      constexpr bool kScales = Config::kMasks == Masks::scaling;
      const bool two = Config::kSlices == 2 && slices == 1;
      const float scale = kScales && live != 0 ? scale_at(k) : 1.f,
                  first_scale = kScales && two ? scale_at(first_k) : 1.f;
      ptx::barrier_wait(ring.empty(position.slot), position.parity ^ 1);
      if constexpr (kScales) {
        if (two) write_scale(0, first_scale);
        write_scale(two ? 1 : 0, scale);
        if constexpr (Ring<Config>::kScaleArrivals != 0) cuda::ptx::barrier_arrive(ring.full(position.slot));
        __syncwarp();
      }
      if (ptx::elect()) fill(k, live, flags);
      __syncwarp();
    }
    slices = 0;
    position.next();
  }

  __device__ void open_scales() {
    const MultiplyParams& multiply = params.multiply;
    const int lane = threadIdx.x % 32;
    const bool is_row = lane < 16;
    const int element = (is_row ? place.row : place.column) + lane % 16 * Config::kBlock;
    const Scales& of = is_row ? multiply.scale_lhs : multiply.scale_rhs;
    scales = static_cast<const float*>(of.values);
    if (element >= (is_row ? multiply.m : multiply.n)) scales = nullptr;
    if (scales != nullptr) {
      scales += place.batch * of.values_per_batch +
                (element >> (is_row ? multiply.block_m : multiply.block_n)) * of.values_per_row;
    }
  }
  __device__ float scale_at(int k) const { return scales != nullptr ? scales[k >> params.multiply.block_k] : 1.f; }
  __device__ void write_scale(int slice, float scale) const {
    const unsigned lane = threadIdx.x % 32;
    if (lane % 16 < Ring<Config>::kScaleLines) {
      const std::uint32_t lines =
          lane < 16 ? ring.row_scales(position.slot, slice) : ring.column_scales(position.slot, slice);
      ptx::store_shared(lines + lane % 16 * 4, scale);
    }
  }

  __device__ void fill(int k, unsigned live, unsigned flags) const {
    const bool two = Config::kSlices == 2 && slices == 1;
    unsigned all = two ? first_live | live << StageState::kSlice : live;
    all |= place.owned << StageState::kOwned;
    if constexpr (kPairs32<Config>) {
      all = two ? first_live : live;
      ptx::store_shared_word(ring.second(position.slot), (two ? live : 0) | place.owned << Pairs32::kOwned);
    }
    ptx::store_shared(
        ring.state(position.slot),
        make_uint4(
            all | (Config::kGathers ? columns << StageState::kColumns | halves() << StageState::kHalves : 0) | flags,
            static_cast<unsigned>(place.row), static_cast<unsigned>(Config::kGathers ? place.gathered : place.column),
            static_cast<unsigned>(matrix)));
    const std::uint32_t full = ring.full(position.slot), to = ring.slice(position.slot, 0);
    ptx::barrier_arrive_expecting(full, bytes_of(live) + (two ? bytes_of(first_live) : 0));
    if (two) load(to, first_k, first_live, full);
    load(two ? to + Ring<Config>::kSliceBytes : to, k, live, full);
  }

  /// A piece of a tile multiplies the halves that it has; whole tiles keep to one time for all.
  __device__ unsigned halves() const {
    const unsigned meant = place.columns;
    return (meant & 3 ? 1 : 0) | (meant & 0xc ? 2 : 0);
  }

  __device__ unsigned bytes_of(unsigned live) const {
    return __popc(rows_of(live)) * Ring<Config>::kRowBlockBytes +
           __popc(columns_of(live) & kAllColumns) * Ring<Config>::kColumnBlockBytes;
  }

  __device__ void load(std::uint32_t to, int k, unsigned live, std::uint32_t full) const {
    load_a(to, k, rows_of(live), full);
    load_b(to, k, columns_of(live), full);
  }

  __device__ void load_b(std::uint32_t to, int k, unsigned columns, std::uint32_t full) const {
    const int b_inner = inner * params.b_batch.inner, b_outer = outer * params.b_batch.outer;
    if (columns & kWhole) {
      const ptx::Coordinates at = Config::kB == Layout::k_major
                                      ? ptx::Coordinates{k, place.column, 0, b_inner, b_outer}
                                      : ptx::Coordinates{0, k, place.column / kWidth, b_inner, b_outer};
      ptx::copy_box(ring.b(to, 0), kPairs32<Config> ? params.b_tile : params.b, full, at);
      return;
    }
#pragma unroll
    for (int j = 0; j < Config::kColumnBlocks; ++j) {
      const int line = first_column(j);
      const ptx::Coordinates at = Config::kB == Layout::k_major ? ptx::Coordinates{k, line, 0, b_inner, b_outer}
                                                                : ptx::Coordinates{line, k, 0, b_inner, b_outer};
      if (columns >> j & 1) ptx::copy_box(ring.b(to, j), params.b, full, at);
    }
  }

  __device__ void x_stages(unsigned pairs) {
#pragma unroll 1
    for (int right = 0; right < 2; ++right) {
      if (others() == 0) {
        ptx::barrier_wait(ring.empty(position.slot), position.parity ^ 1);
        if (ptx::elect()) fill_x(pairs, right);
        __syncwarp();
      }
      position.next();
    }
  }

  __device__ void fill_x(unsigned pairs, int right) const {
    const std::uint32_t full = ring.full(position.slot), to = ring.slice(position.slot, 0);
    const bool by_rows = params.multiply.x.col_stride == sizeof(typename Config::Element);
    pairs = pairs >> 2 * right & 0x333;
    ptx::store_shared(ring.state(position.slot),
                      make_uint4(StageState::kX | place.owned << StageState::kOwned |
                                     (right != 0 ? StageState::kRight | StageState::kLast : 0),
                                 static_cast<unsigned>(place.row), static_cast<unsigned>(place.column),
                                 static_cast<unsigned>(matrix)));
    ptx::barrier_arrive_expecting(full, __popc(pairs) * Ring<Config>::kRowBlockBytes);
#pragma unroll 1
    for (; pairs != 0; pairs &= pairs - 1) {
      const int bit = __ffs(static_cast<int>(pairs)) - 1, i = bit / 4, j = bit % 4;
      const int row = place.row + i * kBlock, column = place.column + (2 * right + j) * kBlock;
      ptx::copy_box(ring.x(to, i, j), params.other, full,
                    {by_rows ? column : row, by_rows ? row : column, 0, inner * params.x_batch.inner,
                     outer * params.x_batch.outer});
    }
  }

  /// In a cluster each block brings half of a block of a, to all.
  __device__ void load_a(std::uint32_t to, int k, unsigned rows, std::uint32_t full) const {
    constexpr int kPart = Config::kBlock / Config::kCluster;
    const int a_inner = inner * params.a_batch.inner, a_outer = outer * params.a_batch.outer;
    if (Config::kBlock == 32 && Config::kA == Layout::k_major && rows == kAllRows) {
      ptx::copy_box(to, params.other, full, {k, place.row, 0, a_inner, a_outer});
      return;
    }
    const int skipped = tickets.rank * kPart;
#pragma unroll
    for (int i = 0; i < Config::kRowBlocks; ++i) {
      const int line = place.row + i * Config::kBlock;
      const ptx::Coordinates at = Config::kA == Layout::k_major
                                      ? ptx::Coordinates{k, line + skipped, 0, a_inner, a_outer}
                                      : ptx::Coordinates{line, k + skipped, 0, a_inner, a_outer};
      if (!(rows >> i & 1)) continue;
      const std::uint32_t at_block = ring.a(to, i) + skipped * 128;
      if constexpr (Config::kCluster > 1) {
        ptx::copy_box_to_all(at_block, params.a, full, at, (1 << Config::kCluster) - 1);
      } else {
        ptx::copy_box(at_block, params.a, full, at);
      }
    }
  }
};

}  // namespace maskmm::cuda::sm90
