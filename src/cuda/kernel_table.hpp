// The kernels that are built: a row for each element type, tile and kind of masks.
#pragma once

#include "cuda/params.hpp"

namespace maskmm::cuda {

/// What a launch must know of a kernel.
struct Kernel {
  const void* function = nullptr;  // takes a MultiplyParams, unless said otherwise
  const char* name = "";
  int rows = 0, columns = 0;  // of its tile
  int threads = 0;
  int blocks_per_sm = 0;
  int stage_bytes = 0;               // shared memory for each stage, barriers included
  int busy_cost = 0, idle_cost = 0;  // as in Candidate
  bool sorts = false;                // the same
  int cluster = 0;                   // Hopper's kernels: blocks of a cluster, side by side; they take a HopperParams
  int block = 0;                     // Hopper's kernels: rows of the least that is skipped
  bool wave = false;                 // Hopper's kernels: a tile a block; they take a SmallParams
  bool gathers = false;              // Hopper's kernels: tiles of the columns that mask_out keeps
  bool skips_pairs = false;          // Hopper's kernels: of a row and a column of blocks, not whole rows alone
};

/// wide: few block rows, many block columns. tall: the other way round. Both are for Hopper; square serves other GPUs.
/// small: for results that would leave most of the device idle otherwise, and for operands that are read element by
/// element.
enum class TileKind { wide, tall, square, small };

Kernel float16_kernel(TileKind kind, Masks masks);
Kernel bfloat16_kernel(TileKind kind, Masks masks);
/// Compiled for each layout in shared memory.
Kernel float32_kernel(bool a_k_major, bool b_k_major, TileKind kind, Masks masks);
Kernel float64_kernel(TileKind kind, Masks masks);

}  // namespace maskmm::cuda
