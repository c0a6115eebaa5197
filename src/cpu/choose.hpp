// choose: shapes, types, alignment and processor -> kernels, panels and workspace. Never looks at mask contents.
#pragma once

#include <cstdint>
#include <string>

#include "core/canonical.hpp"
#include "cpu/kernels/kernel_set.hpp"
#include "cpu/pack.hpp"
#include "cpu/parallel.hpp"

namespace maskmm::cpu {

/// How the work is cut. A task is a range of rows times a panel of columns of one batch element. It packs the live
/// blocks of B that it needs, `k_range` elements of the inner axis at a time, and walks its rows in units of
/// `unit_rows`; the live k of a tile (unit_rows x tile_columns) are summed `chunk` at a time.
///
/// A long K of a small result is cut into parts too: their tasks leave sums, which a second pass adds in order.
///
/// The sum of an element of the result depends on k_parts, k_range and the two chunks alone, so only those may not
/// depend on the number of threads.
struct Choice {
  const KernelSet* set = nullptr;
  const Kernels<float>* pairs = nullptr;  // of bfloat16 along k are the elements of A and packed B; or null
  core::BlockGrid k;                      // the inner axis in elements of packed B: all that follows counts k in those
  std::int64_t lanes = 0;                 // elements of a vector
  std::int64_t micro_columns = 0;         // of the widest micro-tile
  std::int64_t sliver = 0;                // columns that packed B holds side by side: one vector, or micro_columns
  std::int64_t tile_columns = 0;          // a multiple of micro_columns
  std::int64_t panel_columns = 0;         // a multiple of tile_columns
  std::int64_t unit_rows = 0;
  std::int64_t task_rows = 0;  // a multiple of every block size, or all
  std::int64_t k_range = 0;    // a multiple of the block, or all
  std::int64_t chunk = 0;
  std::int64_t long_chunk = 0;     // where the live k of a tile have few gaps
  std::int64_t sliver_stride = 0;  // from one sliver of packed B to the next, in elements
  std::int64_t lda_packed = 0;
  bool a_in_place = false;      // micro-kernels read A where it is
  bool a_down = false;          // they do, and its columns are contiguous, not its rows
  bool b_plain = false;         // rows of B are copied as they are
  bool streams_b = false;       // packed B holds one chunk of a tile and is used once
  bool along_rows = false;      // tiles side by side follow each other, few k at a time
  bool adds_row = false;        // A is one row: rows of B where they are times its elements, added to sums
  bool gathers = false;         // a tile may have live blocks of columns that are not neighbours
  bool narrow = false;          // micro-tiles are one or two vectors wide, with kernels of their own
  bool wide_rows = false;       // A is one row: micro-tiles far wider than a sliver read B where it is
  bool out_direct = false;      // micro-kernels write the result where it belongs
  bool dot = false;             // what tiles give is reduced to a number for each block, not written
  bool x_in_place = false;      // a dot reads x where it is
  Store zeros = Store::cached;  // streamed where the result fills the last-level cache
  bool clears_first = false;    // what mask_out drops is cleared before the tasks run, where it is in long rows
  int threads = 1;
  Idle idle = Idle::spin;  // of the threads after the call

  bool keeps_sums = false;  // a task sums more than one range of k, or part of them, before it writes a result

  std::int64_t panels = 0, row_ranges = 0, k_parts = 1, part_ranges = 1;  // ranges of k in a part
  std::int64_t tasks = 0;

  // Scratch of a thread, in bytes from its start.
  std::int64_t a_offset = 0, sums_offset = 0, packed_offset = 0, x_offset = 0, scratch_bytes = 0;
  std::int64_t sums_ld = 0;
  std::int64_t join_rows = 0, join_pieces = 1;  // what adds the sums of parts takes so many rows of a task at a time
  std::int64_t tasks_at_once = 0;               // whole batch elements; the shared sums hold no more
  std::int64_t task_sums_bytes = 0;  // of each task, in memory that all threads share; 0: sums are in the scratch
};

/// Pieces of the rows of B that the hardware's prefetchers foresee.
inline constexpr std::int64_t kForeseenBytes = 1024;

/// Such as "panel f32 6x64": the element type of the sums, rows and columns of the largest micro-tile.
std::string kernel_name(const Choice& choice, Dtype accumulate);

template <class T>
const Kernels<T>& kernels_of(const Choice& choice) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return choice.pairs != nullptr ? *choice.pairs : choice.set->f32;
  } else {
    return choice.set->f64;
  }
}

/// Whether C^T = B^T A^T is faster: A, that must be packed for each panel, would be read in place, or packed only where
/// a mask keeps it.
bool prefers_swapped_roles(const core::Canonical& canonical, const KernelSet& set);

Choice choose(const core::Canonical& canonical, const KernelSet& set, int max_threads);

}  // namespace maskmm::cpu
