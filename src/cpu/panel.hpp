// Panel: packed B of one task, and the multiplication of one unit after another with it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/canonical.hpp"
#include "cpu/choose.hpp"
#include "cpu/dot_blocks.hpp"
#include "cpu/pack.hpp"

namespace maskmm::cpu {

inline constexpr int kReadWords = 17;     // of bits for the blocks of a range of k, of which there are 1024 at most
inline constexpr int kMaxRuns = 64;       // blocks of a chunk
inline constexpr int kMaxStretches = 16;  // neighbouring columns of a tile

/// Columns [j, j + columns).
struct Stretch {
  std::int64_t j, columns;
};

/// Where a panel is: its operands and the part of them that it covers.
template <class T>
struct Place {
  const std::byte* b;
  std::byte* out;
  T* sums;
  std::int64_t i_begin, j_begin, j_end, k_begin;
  std::int64_t bk_begin, bk_end;  // blocks of k
};

/// A chunk of the live k of one tile: what is multiplied before the next is looked at.
template <class T>
struct Unit {
  Place<T> place;
  Run<T> runs[kMaxRuns];
  std::int64_t run_begins[kMaxRuns];  // in elements of the inner axis
  int run_count = 0;
  std::int64_t i = 0, rows = 0, columns = 0;  // of all stretches
  std::int64_t lds = 0;                       // from one row of sums to the next
  Stretch stretches[kMaxStretches];           // in order; whole vectors, unless there is only one
  int stretch_count = 0;
  bool first = false, last = false;  // of its tile
  bool fresh_a = true;               // some of its A was in no unit before
  bool packs = false;                // some of its blocks of B are not packed yet
  std::int64_t k = 0;                // of all runs
  T scale = 1, scale_second = 1, scale_out = 1;
};

template <class T>
class Panel {
 public:
  /// Blocks of B are packed `packed_columns` at a time: no tile is narrower, and all start at multiples of it.
  Panel(const core::Canonical& canonical, const Choice& choice, std::byte* scratch, std::int64_t packed_columns,
        DotBlocks<T>* dot);
  /// What is pending stays so: its place, and A in place, must outlast it.
  void open(const Place<T>& place);
  /// The rows of A of the units that follow, from k_begin on.
  void set_rows(const T* a_rows, std::int64_t lda, std::int64_t a_step);
  /// The unit that is being filled. Fill all but its runs, then add its blocks of k in order, then push it.
  Unit<T>& unit() { return units_[current_]; }
  void add_block(std::int64_t bk);
  /// Multiplies the unit before: one is always behind, and prefetches its successor.
  void push();
  /// Multiplies what is left.
  void flush();
  Target out_at(const Place<T>& place, std::int64_t i, std::int64_t j) const;

 private:
  std::uint64_t& packed_word(std::int64_t j, std::int64_t bk);
  bool mark_read(std::int64_t bk);
  bool mark_packed(const Unit<T>& unit, std::int64_t bk);
  void pack_b(const Unit<T>& unit, std::int64_t column, std::int64_t columns);
  std::int64_t packed_offset(const Place<T>& place, std::int64_t j) const;
  void set_columns(const Unit<T>& unit, std::int64_t column, std::int64_t columns, bool direct,
                   MicroCall<T>* call) const;
  void set_next_columns(const Unit<T>& next, std::int64_t column, MicroCall<T>* call) const;
  const void* raw_b(std::int64_t bk, std::int64_t j) const;
  void execute(const Unit<T>& unit, const Unit<T>* next);

  const core::Canonical& c_;
  const Choice& choice_;
  const Kernels<T>& kernels_;
  DotBlocks<T>* dot_;  // takes what the units give, in a block_masked_dot
  T* panel_;
  std::uint64_t read_[kReadWords] = {};  // one bit for each block of k: whether some unit of these rows has read its A
  std::uint64_t* packed_;                // one bit for each block of k, for each packed_columns_ of the panel
  std::int64_t packed_columns_;
  int sliver_shift_;  // slivers are powers of two wide
  std::int64_t word_begin_ = 0, packed_words_ = 0;
  Place<T> place_{};
  const T* a_rows_ = nullptr;
  std::int64_t lda_ = 0, a_step_ = 1;
  Unit<T> units_[2];
  int current_ = 0;       // being filled
  bool pending_ = false;  // the other one waits for its successor
};

}  // namespace maskmm::cpu
