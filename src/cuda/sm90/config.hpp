// The shapes of the Hopper kernel, and what its launches get.
#pragma once

#include <cuda.h>

#include "cuda/params.hpp"

namespace maskmm::cuda::sm90 {

inline constexpr int kBlock = 64;                 // rows, columns and k of the least that is multiplied or skipped
inline constexpr int kBlockBytes = kBlock * 128;  // of 64 x 64 elements
inline constexpr int kColumnBlocks = 4;           // across a tile
inline constexpr int kStages = 4;
inline constexpr int kColumns = kColumnBlocks * kBlock;

inline constexpr int kGatheredRows = 3;  // rows of blocks of a tile whose columns are gathered

/// Rows of tiles that are walked down before going right: what is live of a stays in L2 while b passes once.
inline constexpr int kRowsPerGroup = 43 * 192;

/// What a tile skips: rows of blocks that mask_lhs drops at a k block, or pairs of a row and a column of blocks.
enum class Skip { rows, pairs };

/// The columns of blocks of a tile: four neighbours, or any four that mask_out keeps in all of the tile's rows.
enum class Columns { neighbours, gathered };

/// What becomes of a tile's sums: the result, or numbers of a block_masked_dot.
enum class Finish { store, dot };

/// A tile of a thread block: kRowBlocks warpgroups multiply, each 64 x 256 of the result; kCluster blocks side by side
/// share the rows of a.
template <class Element_, Layout kA_, Layout kB_, int kRowBlocks_, int kCluster_, Skip kSkip_,
          Columns kGather_ = Columns::neighbours, Finish kFinish_ = Finish::store>
struct Config {
  using Element = Element_;
  static constexpr Layout kA = kA_, kB = kB_;
  static constexpr int kRowBlocks = kRowBlocks_, kCluster = kCluster_;
  static constexpr Skip kSkip = kSkip_;
  static constexpr Masks kMasks = Masks::choosing;
  static constexpr bool kGathers = kGather_ == Columns::gathered;
  static constexpr Finish kFinish = kFinish_;
  static constexpr int kBlock = sm90::kBlock, kColumns = sm90::kColumns, kColumnBlocks = sm90::kColumnBlocks;
  static constexpr int kColumnWidth = kBlock;  // of a column of blocks, as b is loaded
  static constexpr int kRows = kRowBlocks * kBlock;
  static constexpr int kThreads = 128 * (kRowBlocks + 1);
  static constexpr int kSlices = 1;
  static constexpr int kLoaders = kGathers ? 2 : 4;  // warps; of gathered tiles, the other two write zeros
  static constexpr int kMultiplyRegisters = kRowBlocks == 3 ? 160 : 232;
  static constexpr int kLoadRegisters = kRowBlocks == 3 ? 32 : 40;
  static_assert(kRowBlocks == 2 || kRowBlocks == 3);
  static_assert(sizeof(Element) == 2);
  static_assert(!kGathers ||
                (kFinish == Finish::store && kCluster == 1 && kSkip == Skip::rows && kRowBlocks == kGatheredRows));
  static_assert(kCluster == 1 || (kCluster == 2 && kSkip == Skip::rows));
};

/// The same where mask_lhs or mask_rhs scales: products lie beside the sums, for which only two warpgroups have
/// registers.
template <class Element, Layout kA, Layout kB, int kCluster, Skip kSkip>
struct ScalingConfig : Config<Element, kA, kB, 2, kCluster, kSkip> {
  static constexpr Masks kMasks = Masks::scaling;
};

/// The tile for masks whose blocks are 32: 192 x 192, three warpgroups of 64 columns each. Its products are transposed:
/// the rows of a, which the mask skips, are the n32 of an instruction, and b is its other operand, in registers. Where
/// pairs are skipped, b is loaded by blocks of 32 columns.
template <class Element_, Layout kA_, Layout kB_, Skip kSkip_>
struct Config32 {
  using Element = Element_;
  static constexpr Layout kA = kA_, kB = kB_;
  static constexpr int kRowBlocks = 6, kCluster = 1;
  static constexpr Skip kSkip = kSkip_;
  static constexpr Masks kMasks = Masks::choosing;
  static constexpr bool kGathers = false;
  static constexpr Finish kFinish = Finish::store;
  static constexpr int kBlock = 32, kColumnWidth = kSkip == Skip::pairs ? 32 : 64, kColumnBlocks = 192 / kColumnWidth;
  static constexpr int kRows = kRowBlocks * kBlock, kColumns = kColumnBlocks * kColumnWidth;
  static constexpr int kThreads = 512;
  static constexpr int kSlices = 2, kLoaders = 4;
  static constexpr int kMultiplyRegisters = kSkip == Skip::pairs ? 152 : 160;
  static constexpr int kLoadRegisters = kSkip == Skip::pairs ? 56 : 32;
  static_assert(sizeof(Element) == 2);
};

/// The same where mask_lhs or mask_rhs scales: products of a slice lie beside the sums.
template <class Element, Layout kA, Layout kB, Skip kSkip>
struct ScalingConfig32 : Config32<Element, kA, kB, kSkip> {
  static constexpr Masks kMasks = Masks::scaling;
  static constexpr int kMultiplyRegisters = 152, kLoadRegisters = 56;
};

/// What a stage of pairs of blocks of 32 says of a slice: for each of the three groups of 64 columns, the rows that are
/// multiplied (kRows bits each), and from bit kFirstColumn on the columns of 32 that are loaded.
struct Pairs32 {
  static constexpr int kRows = 6, kFirstColumn = 18, kOwned = 24;
  static constexpr unsigned kEachGroup = 1u | 1u << kRows | 1u << (2 * kRows);
};
template <class Config>
inline constexpr bool kPairs32 = Config::kBlock == 32 && Config::kSkip == Skip::pairs;

/// The batch coordinates of an operand's tensor map, fastest first; 0 where the operand is broadcast.
struct BatchSteps {
  int inner, outer;
};

inline constexpr int kMostOrderedRows = 256;  // of tiles, that may be walked by weight

/// The last, incomplete wave: from tile `first` on, each is cut into `pieces` of `rows` rows of blocks.
struct Tail {
  int first, total;  // total: all tiles, pieces counted as such
  int pieces, rows;
};

/// A tile of gathered columns: some of the rows of blocks of a row of tiles, and up to four columns of blocks that
/// mask_out keeps in all of them, or in some.
struct GatheredTile {
  int row;         // first element of the row of tiles
  unsigned owned;  // its rows of blocks that are meant
  int batch;
  int unused;
  int columns[kColumnBlocks];  // first element of each, plus the rows that keep it, as bits; -1: none
};

/// Tiles of three, of two and of one row of blocks, each in a list of its own; the heaviest are walked first.
struct Gathered {
  GatheredTile* tiles;  // three lists of `capacity`
  unsigned* counts;     // of each
  int capacity;
  unsigned* pace;  // see pace.cuh
};

inline constexpr int kPaceParts = 32;  // of k

struct HopperParams {
  CUtensorMap a, b;
  CUtensorMap other;   // blocks of 32: all rows of a tile of a by one copy; a dot: x
  CUtensorMap b_tile;  // pairs of blocks of 32: all columns of a tile of b
  MultiplyParams multiply;
  Tail tail;
  unsigned* ticket_counter;
  Gathered gathered;
  BatchSteps a_batch, b_batch, x_batch;
  bool b_whole;  // one copy brings all columns of a tile
  bool down;     // the result's columns are contiguous, and may be written in vectors
};

}  // namespace maskmm::cuda::sm90
