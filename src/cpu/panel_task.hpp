// PanelTask: a range of rows times a panel of columns of one batch element, on one thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/canonical.hpp"
#include "cpu/choose.hpp"
#include "cpu/dot_blocks.hpp"
#include "cpu/live.hpp"
#include "cpu/panel.hpp"

namespace maskmm::cpu {

template <class T>
class PanelTask {
 public:
  /// `scratch` has room for choice.scratch_bytes, `shared_sums` for choice.task_sums_bytes of each of
  /// choice.tasks_at_once tasks.
  PanelTask(const core::Canonical& canonical, const Choice& choice, const Live& live, std::byte* scratch,
            std::byte* shared_sums);
  /// What it multiplies last may wait for the task after it, to prefetch for it.
  void run(std::int64_t task);
  /// Ends a row of tasks.
  void flush();
  /// Where K is cut into parts: the result from the sums of tasks `first_task` to first_task + choice.k_parts - 1, the
  /// rows of one of choice.join_pieces.
  void join_parts(std::int64_t first_task, std::int64_t piece);

 private:
  /// Columns with one list of live k, and one scale: neighbours, or what mask_out kept of a row.
  struct Tile {
    std::int64_t bj = 0;  // of the first
    std::int64_t columns = 0;
    bool kept = true;  // by mask_out
    Stretch stretches[kMaxStretches];
    int stretch_count = 0;

    void add(const Stretch& stretch) {
      columns += stretch.columns;
      stretches[stretch_count++] = stretch;
    }
  };
  struct Scale {
    T first, second;
    bool operator==(const Scale& other) const;
  };

  static constexpr std::int64_t kMostStretches = 256;

  void locate(std::int64_t task);
  T* sums_of(std::int64_t task) const;
  void open_k_range(std::int64_t index);
  void add_row();
  void multiply_rows(std::int64_t i, std::int64_t rows);
  void pack_a(std::int64_t bi, std::int64_t i, std::int64_t rows);
  bool kept(std::int64_t bi, std::int64_t bj) const;
  std::int64_t tile_columns(std::int64_t rows) const;
  Tile next_tile(std::int64_t bi, std::int64_t j, std::int64_t rows) const;
  bool same_tile(std::int64_t bi, std::int64_t bj) const;
  void clear_columns(std::int64_t i, std::int64_t rows, std::int64_t j, std::int64_t j_end);
  void multiply_tile(std::int64_t bi, std::int64_t i, std::int64_t rows, const Tile& tile);
  void gather_tile(std::int64_t bi, std::int64_t i, std::int64_t rows, const Tile& tile);
  void flush_gathered(std::int64_t bi, std::int64_t i, std::int64_t rows);
  void finish();
  void finish_rows(std::int64_t i, std::int64_t rows);

  std::uint64_t live_word(std::int64_t bi, std::int64_t bj, std::int64_t word) const;
  bool any_live(std::int64_t bi, std::int64_t bj) const;
  std::int64_t chunk_of(std::int64_t bi, std::int64_t bj, std::int64_t live_blocks) const;
  std::int64_t count_live_k(std::int64_t bi, std::int64_t bj) const;
  Scale block_scale(std::int64_t bi, std::int64_t bj, std::int64_t bk) const;
  T out_scale(std::int64_t bi, std::int64_t bj) const;
  std::int64_t rows_from(std::int64_t i) const;
  bool same_rows(std::int64_t bi) const;

  const core::Canonical& c_;
  const Choice& choice_;
  const Live& live_;
  T* a_packed_;
  T* sums_;
  std::byte* shared_sums_;

  // Blocks as the masks of this call see them: an axis that no mask cuts has blocks as large as suits.
  std::int64_t row_block_, column_block_;
  bool gathers_;
  DotBlocks<T> dot_;
  Panel<T> panel_;
  Place<T> place_{};

  std::int64_t batch_ = 0, part_ = 0;
  const std::byte *a_ = nullptr, *b_ = nullptr, *mask_lhs_ = nullptr, *mask_rhs_ = nullptr, *mask_out_ = nullptr;
  std::byte* out_ = nullptr;
  std::int64_t i_begin_ = 0, i_end_ = 0, j_begin_ = 0, j_end_ = 0, k_begin_ = 0, k_end_ = 0;
  std::int64_t bj_begin_ = 0, bj_end_ = 0, bk_begin_ = 0, bk_end_ = 0;
  std::int64_t word_begin_ = 0, word_end_ = 0;
  Tile gathered_;        // live columns of the current rows that wait for more
  bool read_a_ = false;  // a tile of the current rows has read all live columns of A
};

}  // namespace maskmm::cpu
