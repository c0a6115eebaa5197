// PanelTask: a range of rows times a panel of columns of one batch element, on one thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/canonical.hpp"
#include "cpu/choose.hpp"
#include "cpu/live.hpp"
#include "cpu/pack.hpp"

namespace maskmm::cpu {

template <class T>
class PanelTask {
 public:
  /// `scratch` has room for choice.scratch_bytes, `shared_sums` for choice.task_sums_bytes of each of
  /// choice.tasks_at_once tasks.
  PanelTask(const core::Canonical& canonical, const Choice& choice, const Live& live, std::byte* scratch,
            std::byte* shared_sums);
  void run(std::int64_t task);
  /// Where K is cut into parts: the result from the sums of tasks `first_task` to first_task + choice.k_parts - 1.
  void join_parts(std::int64_t first_task);

 private:
  static constexpr int kMaxRuns = 16;  // a chunk of 256 elements in blocks of 16

  /// A chunk of the live k of one tile: what is multiplied before the next is looked at.
  struct Unit {
    Run<T> runs[kMaxRuns];
    int run_count = 0;
    std::int64_t i = 0, rows = 0, j = 0, columns = 0;
    bool first = false, last = false;  // of its tile
    bool packs = false;                // some of its blocks of B may not be packed yet
    T scale = 1, scale_second = 1, scale_out = 1;
  };
  /// Columns with one list of live k.
  struct Tile {
    std::int64_t j, columns, bj;
    bool kept;  // by mask_out
  };
  struct Scale {
    T first, second;
    bool operator==(const Scale& other) const;
  };

  void locate(std::int64_t task);
  T* sums_of(std::int64_t task) const;
  void open_k_range(std::int64_t index);
  std::uint64_t& packed_word(std::int64_t j, std::int64_t bk);
  void multiply_rows(std::int64_t i, std::int64_t rows);
  void pack_a(std::int64_t bi, std::int64_t i, std::int64_t rows);
  Tile next_tile(std::int64_t bi, std::int64_t j) const;
  bool same_tile(std::int64_t bi, std::int64_t bj) const;
  void clear_columns(std::int64_t i, std::int64_t rows, std::int64_t j, std::int64_t j_end);
  bool multiply_tile(std::int64_t bi, std::int64_t i, std::int64_t rows, const Tile& tile);
  void add_block(Unit* unit, std::int64_t bk);
  void push();
  void flush();
  void execute(const Unit& unit, const Unit* next);
  void pack_b(const Unit& unit);
  void pack_b_block(std::int64_t bk, std::int64_t j, std::int64_t columns);
  const T* raw_b(std::int64_t k, std::int64_t j) const;
  std::int64_t raw_ldb() const;
  void finish();
  void finish_rows(std::int64_t i, std::int64_t rows);

  std::uint64_t live_word(std::int64_t bi, std::int64_t bj, std::int64_t word) const;
  bool any_live(std::int64_t bi, const Tile& tile) const;
  Scale block_scale(std::int64_t bi, std::int64_t bj, std::int64_t bk) const;
  T out_scale(std::int64_t bi, std::int64_t bj) const;
  std::int64_t rows_from(std::int64_t i) const;
  bool same_rows(std::int64_t bi) const;
  Target out_at(std::int64_t i, std::int64_t j) const;

  const core::Canonical& c_;
  const Choice& choice_;
  const Live& live_;
  const Kernels<T>& kernels_;
  T* panel_;
  T* a_packed_;
  T* sums_;
  std::byte* shared_sums_;
  std::uint64_t* packed_;  // one bit for each block of k, for each packed_columns_ of the panel

  // Blocks as the masks of this call see them: an axis that no mask cuts has blocks as large as suits.
  std::int64_t row_block_, column_block_;
  std::int64_t packed_columns_;  // what is packed at a time: no tile is narrower, and all start at multiples of it

  std::int64_t batch_ = 0, part_ = 0;
  const std::byte *a_ = nullptr, *b_ = nullptr, *mask_lhs_ = nullptr, *mask_rhs_ = nullptr, *mask_out_ = nullptr;
  std::byte* out_ = nullptr;
  std::int64_t i_begin_ = 0, i_end_ = 0, j_begin_ = 0, j_end_ = 0, k_begin_ = 0, k_end_ = 0;
  std::int64_t bj_begin_ = 0, bj_end_ = 0, bk_begin_ = 0, bk_end_ = 0;
  std::int64_t word_begin_ = 0, word_end_ = 0, packed_words_ = 0;
  const T* a_rows_ = nullptr;  // row i of the unit at k_begin_
  std::int64_t lda_ = 0;

  Unit units_[2];
  int current_ = 0;       // being filled
  bool pending_ = false;  // the other one waits for its successor, which it prefetches
};

}  // namespace maskmm::cpu
