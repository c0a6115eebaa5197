// What a launch gets: plain data, passed by value. Addresses and strides are in bytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "maskmm/view.hpp"

namespace maskmm::cuda {

/// Whether mask_lhs and mask_rhs only choose, or scale too.
enum class Masks { choosing, scaling };

/// How an operand lies in shared memory: k contiguous, or lines (rows of a, columns of b) contiguous.
enum class Layout { k_major, line_major };

/// Batch axes of one launch. A call with more is enqueued slice by slice: parameters are read for each launch, and of
/// 64 axes they would take 5 KB.
constexpr int kBatchAxes = 4;

/// Strides of one array along the batch axes; the sizes are in the shape.
template <int kMostAxes>
struct StridesOf {
  std::int64_t bytes[kMostAxes];
};

template <int kMostAxes>
struct ShapeOf {
  std::int64_t size[kMostAxes];
  int rank;
};

using BatchStrides = StridesOf<kBatchAxes>;
using BatchShape = ShapeOf<kBatchAxes>;

/// An operand as lines of k: the rows of a, the columns of b.
struct Source {
  const std::byte* data;
  std::int64_t line_stride;
  std::int64_t k_stride;
  std::int64_t lines;
  BatchStrides batch;
  Dtype dtype;
  bool k_major;  // shared memory holds k contiguous; otherwise it holds lines contiguous
  bool vectors;  // whole 16-byte vectors lie along the contiguous axis, aligned
  bool native;   // the kernel's own element type, aligned
};

struct Result {
  std::byte* data;
  std::int64_t row_stride;
  std::int64_t col_stride;
  BatchStrides batch;
  Dtype dtype;
  bool vectors;  // rows may be written in aligned 16-byte vectors
  bool aligned;  // every element lies at a multiple of its size
};

/// x of a block_masked_dot.
struct DotX {
  /// accumulator, element: of that type of the kernel's, with neighbours in a row that are neighbours in memory.
  enum class Reading { accumulator, element, one_by_one };
  const std::byte* data;  // null: block_masked_mm
  std::int64_t row_stride;
  std::int64_t col_stride;
  BatchStrides batch;
  Dtype dtype;
  Reading reading;
};

/// A mask as rows of bits; bit k of word w stands for block 64 w + k. Null: every block is live.
struct BitRows {
  const std::uint64_t* words;
  std::int64_t words_per_row;
  std::int64_t words_per_batch;  // 0: one mask for the whole batch
};

/// A mask that is not bool, as values of the accumulating type, laid out as its bits are. Null: every value is 1.
struct Scales {
  const void* values;
  std::int64_t values_per_row;
  std::int64_t values_per_batch;
};

/// Order of the tiles: matrices, then splits of k, then groups of `group` rows of tiles, walked down then right.
struct Schedule {
  std::int64_t tiles_m, tiles_n;
  std::int64_t splits;
  std::int64_t blocks_per_split;
  std::int64_t total;  // tiles of all splits of all matrices
  std::int64_t group;
};

/// The plan's order of the tiles. Null: all tiles, in the order of their indices.
struct TileList {
  const unsigned* tiles;   // first those with live triples, then the others
  const unsigned* counts;  // of those with live triples; of all. Both 0 where the plan gave the work to another kernel
};

struct MultiplyParams {
  std::int64_t m, n, k;  // elements
  std::int64_t k_blocks;
  int block_m, block_n, block_k;  // log2 of the block sizes
  Source a, b;
  Result out;
  BatchShape batch;
  std::int64_t batch_size;
  BitRows live_out, live_lhs, live_rhs;  // live_rhs has a row for each block column
  Scales scale_out, scale_lhs, scale_rhs;
  const unsigned* scaled;  // null, or nonzero once some live value of mask_lhs or mask_rhs is not 1
  DotX x;
  void* partial;  // null, or splits x batch x m x n sums; with x, one for each square of 16 x 16: see dot.cuh
  Schedule schedule;
  TileList list;
  int stages;  // of the ring in shared memory
};

struct ReduceParams {
  std::int64_t m, n, batch_size, splits;
  std::int64_t n_blocks;
  int block_m, block_n;
  const void* partial;
  Result out;
  BatchShape batch;
  Scales scale_out;
};

/// The numbers of a block_masked_dot: those of a block's squares, summed over the splits of k too.
struct ReduceSquaresParams {
  std::int64_t m, n, batch_size, splits;
  int block_m, block_n;
  const void* squares;
  Result out;
  BatchShape batch;
  Scales scale_out;
};

/// One mask for the pre-pass: rows of bits along `columns`.
struct MaskParams {
  const std::byte* data;  // null: absent
  Dtype dtype;
  std::int64_t row_stride, col_stride;
  BatchStrides batch;
  std::int64_t rows, columns, words_per_row;
  std::int64_t batches;  // 1, or the batch size
  std::uint64_t* words;
  void* scales;      // null for a bool mask
  unsigned* scaled;  // set to 1 by a live value that is not 1; null where nobody asks
};

struct LiveParams {
  MaskParams masks[3];
  BatchShape batch;
};

/// A kernel that could do the work, as the plan sees it.
struct Candidate {
  Schedule schedule;
  int rows, columns;    // of its tile
  int busy_cost;        // of a stage in which the busiest part of the tile multiplies, for 16 x 16 of the result
  int idle_cost;        // of any stage
  bool sorts;           // tiles heaviest first
  std::uint64_t* cost;  // the sum over tiles
  unsigned* weights;    // of the tiles: live k blocks, the busiest part counted twice
  unsigned* tiles;      // as in TileList
  unsigned* counts;
};

constexpr int kCandidates = 3;  // for bool masks, for small tiles, for scaling masks

struct PlanParams {
  std::int64_t m, n, k_blocks, batch_size;
  int block_m, block_n;  // log2
  BitRows live_out, live_lhs, live_rhs;
  const unsigned* scaled;             // as in MultiplyParams
  Candidate candidates[kCandidates];  // no tiles: absent
  unsigned* finished;                 // blocks of the launch that are through; 0 at first
};

}  // namespace maskmm::cuda
