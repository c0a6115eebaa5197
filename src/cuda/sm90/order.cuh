// The tiles of a launch in their order. Rows of tiles whose masks weigh about the same are walked in groups, so that
// tiles that run at one time share operands in L2; where they differ (a causal mask), the heaviest come first, or the
// last tiles would be waited for. The tiles of the last wave are cut into pieces of fewer rows.
#pragma once

#include "cuda/sm90/config.hpp"

namespace maskmm::cuda::sm90 {

/// A tile, or a piece of one: `owned` are the rows of blocks that are meant. In 32 bits, as all that the loading warp
/// holds: it has few registers.
struct Place {
  int row, column;  // first element
  int batch, split;
  unsigned owned;
  int gathered;      // the number of its GatheredTile
  unsigned columns;  // of that: those that are meant
};

/// Decided by each block for itself while it starts, alike in all.
struct RowOrder {
  std::uint16_t weights[kMostOrderedRows];
  std::uint16_t rows[kMostOrderedRows];  // of tiles, heaviest first
  unsigned sum, squares;                 // of the weights
  unsigned by_weight;                    // heaviest first
  unsigned unused;
};

template <class Config>
struct Order {
  const HopperParams& params;
  RowOrder& rows;

  /// All threads of the block; they synchronize afterwards.
  __device__ void prepare() const {
    const MultiplyParams& p = params.multiply;
    if constexpr (Config::kGathers) return;
    if (threadIdx.x == 0) rows.sum = rows.squares = rows.by_weight = 0;
    // Few rows of tiles, one mask for all matrices, rows of a few words.
    const bool weighs = p.live_lhs.words != nullptr && p.live_lhs.words_per_batch == 0 && p.schedule.splits == 1 &&
                        p.schedule.tiles_m > 1 && p.schedule.tiles_m <= kMostOrderedRows &&
                        p.live_lhs.words_per_row <= 32;
    if (!weighs) return;
    __syncthreads();
    const int count = static_cast<int>(p.schedule.tiles_m);
    for (int t = threadIdx.x; t < count; t += Config::kThreads) {
      const unsigned weight = weigh(t);
      rows.weights[t] = static_cast<std::uint16_t>(weight);
      atomicAdd(&rows.sum, weight);
      atomicAdd(&rows.squares, weight * weight);
    }
    __syncthreads();
    // By more than chance: a random mask's variance is about its mean.
    const float mean = __fdividef(static_cast<float>(rows.sum), static_cast<float>(count));
    const float variance = __fdividef(static_cast<float>(rows.squares), static_cast<float>(count)) - mean * mean;
    if (variance <= 2 * mean + 0.15f * mean * mean) return;
    if (threadIdx.x == 0) rows.by_weight = 1;
    for (int t = threadIdx.x; t < count; t += Config::kThreads) {
      int rank = 0;
      for (int u = 0; u < count; ++u) {
        rank += rows.weights[u] > rows.weights[t] || (rows.weights[u] == rows.weights[t] && u < t);
      }
      rows.rows[rank] = static_cast<std::uint16_t>(t);
    }
  }

  __device__ int total() const {
    if constexpr (Config::kGathers) {
      const int tiles = gathered_tiles(), left = tiles % workers();
      return tiles - left + left * (kColumnBlocks / columns_of_piece(left));
    }
    return static_cast<int>(rows.by_weight != 0 ? params.multiply.schedule.total : params.tail.total);
  }

  /// Whether most gathered tiles have one row, for whose products they bring the most, and there are waves enough that
  /// these drift apart: see pace.cuh.
  __device__ bool needs_pace() const {
    const int tiles = gathered_tiles();
    return 2 * static_cast<int>(params.gathered.counts[2]) > tiles && tiles > 5 * workers();
  }

  __device__ Place at(int index) const {
    if constexpr (Config::kGathers) return gathered_at(index);
    const Schedule& schedule = params.multiply.schedule;
    const int tiles_m = static_cast<int>(schedule.tiles_m), tiles_n = static_cast<int>(schedule.tiles_n);
    Place place{0, 0, 0, 0, (1u << Config::kRowBlocks) - 1, 0, 0};
    if (rows.by_weight != 0) {
      const int line = index / tiles_n;
      place.column = (index - line * tiles_n) * (Config::kCluster * Config::kColumns);
      place.batch = line / tiles_m;
      place.row = rows.rows[line - place.batch * tiles_m] * Config::kRows;
      return place;
    }
    if (index >= params.tail.first) {
      const int piece = index - params.tail.first, tile = piece / params.tail.pieces;
      place.owned &= ((1u << params.tail.rows) - 1) << ((piece - tile * params.tail.pieces) * params.tail.rows);
      index = params.tail.first + tile;
    }
    const int matrix = index / (tiles_m * tiles_n), tile = index - matrix * (tiles_m * tiles_n);
    const int full = static_cast<int>(schedule.group), group = tile / (full * tiles_n);
    const int in_group = tile - group * (full * tiles_n), height = min(full, tiles_m - group * full);
    const int column = in_group / height;
    place.row = (group * full + in_group - column * height) * Config::kRows;
    place.column = column * (Config::kCluster * Config::kColumns);
    place.batch = matrix;
    if (schedule.splits > 1) {
      place.batch = matrix / static_cast<int>(schedule.splits);
      place.split = matrix - place.batch * static_cast<int>(schedule.splits);
    }
    return place;
  }

 private:
  static __device__ int workers() { return static_cast<int>(gridDim.x) / Config::kCluster; }

  __device__ int gathered_tiles() const {
    const unsigned* counts = params.gathered.counts;
    return static_cast<int>(counts[0] + counts[1] + counts[2]);
  }

  static __device__ int columns_of_piece(int left) {
    return left * 4 <= workers() ? 1 : left * 2 <= workers() ? 2 : kColumnBlocks;
  }

  __device__ Place gathered_at(int index) const {
    const Gathered& gathered = params.gathered;
    // As in the last wave of neighbours, but by columns.
    const int tiles = gathered_tiles(), left = tiles % workers(), whole = tiles - left, piece = columns_of_piece(left);
    unsigned columns = (1u << kColumnBlocks) - 1;
    if (index >= whole) {
      const int pieces = kColumnBlocks / piece, tile = (index - whole) / pieces;
      columns = ((1u << piece) - 1) << ((index - whole - tile * pieces) * piece);
      index = whole + tile;
    }
    const int threes = static_cast<int>(gathered.counts[0]), twos = static_cast<int>(gathered.counts[1]);
    if (index >= threes + twos) {
      index += 2 * gathered.capacity - threes - twos;
    } else if (index >= threes) {
      index += gathered.capacity - threes;
    }
    const GatheredTile& tile = gathered.tiles[index];
    return {tile.row, 0, tile.batch, 0, tile.owned, index, columns};
  }

  /// Blocks that some row of the tile has live: its stages.
  __device__ unsigned weigh(int tile) const {
    const MultiplyParams& p = params.multiply;
    const BitRows& bits = p.live_lhs;
    const std::int64_t first = std::int64_t{tile} * Config::kRows;
    unsigned weight = 0;
    for (int word = 0; word < bits.words_per_row; ++word) {
      std::uint64_t any = 0;
#pragma unroll
      for (int i = 0; i < Config::kRowBlocks; ++i) {
        const std::int64_t row = first + i * Config::kBlock;
        if (row < p.m) any |= bits.words[(row >> p.block_m) * bits.words_per_row + word];
      }
      weight += __popcll(any);
    }
    return weight;
  }
};

}  // namespace maskmm::cuda::sm90
