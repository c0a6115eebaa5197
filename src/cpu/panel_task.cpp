#include "cpu/panel_task.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "core/mask_value.hpp"

namespace maskmm::cpu {
namespace {

using core::Canonical;
using core::ceil_div;
using core::round_up;

/// Calls f(begin, end) for each stretch of neighbouring ones among the bits [begin, end) of words(0), words(1), ...
template <class Words, class F>
void for_each_stretch(std::int64_t begin, std::int64_t end, Words words, F f) {
  std::int64_t start = -1;
  for (std::int64_t word = begin / 64; word * 64 < end; ++word) {
    std::uint64_t bits = words(word) & bits_between(word, begin, end);
    const std::int64_t base = word * 64;
    if (start >= 0 && bits == ~std::uint64_t{0}) continue;
    if (start >= 0) {
      const int ones = std::countr_one(bits);
      f(start, base + ones);
      start = -1;
      bits &= ~std::uint64_t{0} << ones;
    }
    while (bits != 0) {
      const int zeros = std::countr_zero(bits);
      const int ones = std::countr_one(bits >> zeros);
      if (zeros + ones == 64) {
        start = base + zeros;
        break;
      }
      f(base + zeros, base + zeros + ones);
      bits &= ~std::uint64_t{0} << (zeros + ones);
    }
  }
  if (start >= 0) f(start, end);
}

}  // namespace

template <class T>
bool PanelTask<T>::Scale::operator==(const Scale& other) const {
  return first == other.first && second == other.second;  // a NaN differs from itself: never merged, still right
}

template <class T>
PanelTask<T>::PanelTask(const Canonical& canonical, const Choice& choice, const Live& live, std::byte* scratch,
                        std::byte* shared_sums)
    : c_(canonical),
      choice_(choice),
      live_(live),
      a_packed_(reinterpret_cast<T*>(scratch + choice.a_offset)),
      sums_(reinterpret_cast<T*>(scratch + choice.sums_offset)),
      shared_sums_(shared_sums),
      row_block_(live.lhs.present() || live.out.present() ? canonical.m.block : choice.unit_rows),
      column_block_(live.rhs.present() || live.out.present() ? canonical.n.block : choice.tile_columns),
      gathers_(choice.gathers && live.out.present() && !live.out.scaled && !live.rhs.present()),
      dot_(canonical, choice, live.out.scaled, scratch),
      panel_(canonical, choice, scratch, std::min(column_block_, choice.tile_columns), &dot_) {}

template <class T>
void PanelTask<T>::run(std::int64_t task) {
  locate(task);
  if (choice_.dot && choice_.k_parts == 1) dot_.open(batch_, i_begin_, i_end_, j_begin_, j_end_);
  if (choice_.keeps_sums) std::fill(sums_, sums_ + (i_end_ - i_begin_) * choice_.sums_ld, T(0));
  for (std::int64_t index = 0; index < choice_.part_ranges; ++index) {
    open_k_range(part_ * choice_.part_ranges + index);
    if (choice_.adds_row) {
      add_row();
      continue;
    }
    for (std::int64_t i = i_begin_, rows; i < i_end_; i += rows) {
      rows = rows_from(i);
      multiply_rows(i, rows);
    }
  }
  if (choice_.keeps_sums || choice_.dot) panel_.flush();
  if (choice_.keeps_sums && choice_.k_parts == 1) finish();
}

template <class T>
void PanelTask<T>::flush() {
  panel_.flush();
  if (choice_.zeros == Store::streamed) order_stores();
}

template <class T>
void PanelTask<T>::join_parts(std::int64_t first_task, std::int64_t piece) {
  locate(first_task);
  const std::int64_t begin = std::min(piece * choice_.join_rows, i_end_ - i_begin_),
                     end = std::min(begin + choice_.join_rows, i_end_ - i_begin_);
  if (begin == end) return;
  const std::int64_t offset = begin * choice_.sums_ld, size = (end - begin) * choice_.sums_ld;
  sums_ += offset;
  i_end_ = i_begin_ + end;
  i_begin_ += begin;
  open_k_range(0);  // tells the panel its place in the result
  if (choice_.dot) dot_.open(batch_, i_begin_, i_end_, j_begin_, j_end_);
  for (std::int64_t part = 1; part < choice_.k_parts; ++part) {
    const T* more = sums_of(first_task + part) + offset;
    for (std::int64_t element = 0; element < size; ++element) sums_[element] += more[element];
  }
  finish();
}

template <class T>
T* PanelTask<T>::sums_of(std::int64_t task) const {
  return reinterpret_cast<T*>(shared_sums_ + task % choice_.tasks_at_once * choice_.task_sums_bytes);
}

template <class T>
void PanelTask<T>::locate(std::int64_t task) {
  if (choice_.k_parts > 1) sums_ = sums_of(task);
  part_ = task % choice_.k_parts;
  task /= choice_.k_parts;
  const std::int64_t range = task % choice_.row_ranges;
  task /= choice_.row_ranges;
  const std::int64_t panel = task % choice_.panels;
  batch_ = task / choice_.panels;
  const auto data = [&](const core::Operand& operand) {
    return operand.present() ? core::batch_data(operand, c_.batch, batch_) : nullptr;
  };
  a_ = data(c_.a);
  b_ = data(c_.b);
  out_ = data(c_.out);
  mask_out_ = data(c_.mask_out);
  mask_lhs_ = data(c_.mask_lhs);
  mask_rhs_ = data(c_.mask_rhs);
  i_begin_ = range * choice_.task_rows;
  i_end_ = std::min(i_begin_ + choice_.task_rows, c_.m.extent);
  j_begin_ = panel * choice_.panel_columns;
  j_end_ = std::min(j_begin_ + choice_.panel_columns, c_.n.extent);
  bj_begin_ = j_begin_ / column_block_;
  bj_end_ = ceil_div(j_end_, column_block_);
}

template <class T>
void PanelTask<T>::open_k_range(std::int64_t index) {
  k_begin_ = std::min(index * choice_.k_range, choice_.k.extent);
  k_end_ = std::min(k_begin_ + choice_.k_range, choice_.k.extent);
  bk_begin_ = k_begin_ / choice_.k.block;
  bk_end_ = k_begin_ < k_end_ ? ceil_div(k_end_, choice_.k.block) : bk_begin_;  // the last part may have fewer ranges
  word_begin_ = bk_begin_ / 64;
  word_end_ = ceil_div(bk_end_, 64);
  place_ = {b_, out_, sums_, i_begin_, j_begin_, j_end_, k_begin_, bk_begin_, bk_end_};
  panel_.open(place_);
}

/// Rows from i on that one list of live k serves.
template <class T>
std::int64_t PanelTask<T>::rows_from(std::int64_t i) const {
  const std::int64_t limit = std::min(i + choice_.unit_rows, i_end_);
  std::int64_t bi = i / row_block_;
  std::int64_t end = (bi + 1) * row_block_;
  while (end < limit && same_rows(bi)) end = (++bi + 1) * row_block_;
  return std::min(end, limit) - i;
}

/// Whether block rows bi and bi + 1 have the same live k in this range, and no scales, in all columns of the panel.
template <class T>
bool PanelTask<T>::same_rows(std::int64_t bi) const {
  if (live_.lhs.scaled || live_.out.scaled) return false;
  if (live_.lhs.present()) {
    const std::uint64_t *row = live_.lhs.row(batch_, bi), *below = live_.lhs.row(batch_, bi + 1);
    for (std::int64_t word = word_begin_; word < word_end_; ++word) {
      if ((row[word] ^ below[word]) & bits_between(word, bk_begin_, bk_end_)) return false;
    }
  }
  if (live_.out.present()) {
    const std::uint64_t *row = live_.out.row(batch_, bi), *below = live_.out.row(batch_, bi + 1);
    for (std::int64_t word = bj_begin_ / 64; word * 64 < bj_end_; ++word) {
      if ((row[word] ^ below[word]) & bits_between(word, bj_begin_, bj_end_)) return false;
    }
  }
  return true;
}

template <class T>
std::uint64_t PanelTask<T>::live_word(std::int64_t bi, std::int64_t bj, std::int64_t word) const {
  std::uint64_t bits = bits_between(word, bk_begin_, bk_end_);
  if (live_.lhs.present()) bits &= live_.lhs.row(batch_, bi)[word];
  if (live_.rhs.present()) bits &= live_.rhs.row(batch_, bj)[word];
  return bits;
}

template <class T>
void PanelTask<T>::pack_a(std::int64_t bi, std::int64_t i, std::int64_t rows) {
  const auto words = [&](std::int64_t word) {
    std::uint64_t columns = 0;
    for (std::int64_t bj = bj_begin_; bj < bj_end_; ++bj) {
      if (live_.out.present() && !test_bit(live_.out.row(batch_, bi), bj)) continue;
      columns |= live_word(bi, bj, word);
    }
    return columns;
  };
  const Source source{a_, c_.a.dtype, c_.promoted, c_.a.row_stride_bytes, c_.a.col_stride_bytes};
  for_each_stretch(bk_begin_, bk_end_, words, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t k = c_.k.begin(begin), k_count = std::min(c_.k.begin(end), c_.k.extent) - k;
    T* to = a_packed_ + (choice_.k.begin(begin) - k_begin_);
    if constexpr (sizeof(T) == sizeof(float)) {
      if (choice_.pairs != nullptr)
        return pack_pairs_of_columns(*choice_.set, source.at(i, k), rows, k_count, to, choice_.lda_packed);
    }
    pack<T>(*choice_.set, source.at(i, k), rows, k_count, to, choice_.lda_packed, k_count);
  });
}

template <class T>
void PanelTask<T>::multiply_rows(std::int64_t i, std::int64_t rows) {
  const std::int64_t bi = i / row_block_;
  if (choice_.a_in_place) {
    const auto elements = [](std::int64_t bytes) { return bytes / static_cast<std::int64_t>(sizeof(T)); };
    const std::int64_t lda = elements(c_.a.row_stride_bytes),
                       step = choice_.a_down ? elements(c_.a.col_stride_bytes) : 1;
    panel_.set_rows(reinterpret_cast<const T*>(a_) + i * lda + k_begin_ * step, lda, step);
  } else {
    panel_.flush();  // what is pending still reads the packed rows
    pack_a(bi, i, rows);
    panel_.set_rows(a_packed_, choice_.lda_packed, 1);
  }
  // Dead tiles side by side are cleared at once: long rows are written much faster than short ones.
  std::int64_t dead = j_begin_;
  read_a_ = false;
  for (std::int64_t j = j_begin_; j < j_end_;) {
    const Tile tile = next_tile(bi, j, rows);
    const bool is_live = tile.kept && count_live_k(bi, tile.bj) > 0, is_clear = !tile.kept && choice_.clears_first;
    if (is_live || is_clear) {
      if (is_live && gathers_) {
        gather_tile(bi, i, rows, tile);
      } else if (is_live) {
        multiply_tile(bi, i, rows, tile);
      }
      if (dead < j) clear_columns(i, rows, dead, j);
      dead = j + tile.columns;
    }
    j += tile.columns;
  }
  if (gathers_) flush_gathered(bi, i, rows);
  if (dead < j_end_) clear_columns(i, rows, dead, j_end_);
}

/// Takes what mask_out kept until micro-tiles of the widest kind are full: all columns of a row have the same live k.
template <class T>
void PanelTask<T>::gather_tile(std::int64_t bi, std::int64_t i, std::int64_t rows, const Tile& tile) {
  if (tile.columns % choice_.lanes != 0) {
    flush_gathered(bi, i, rows);
    return multiply_tile(bi, i, rows, tile);
  }
  Stretch left = tile.stretches[0];
  while (left.columns > 0) {
    const std::int64_t columns = std::min(left.columns, tile_columns(rows) - gathered_.columns);
    if (gathered_.columns == 0) gathered_.bj = left.j / column_block_;
    gathered_.add({left.j, columns});
    left = {left.j + columns, left.columns - columns};
    if (gathered_.columns == tile_columns(rows)) flush_gathered(bi, i, rows);
  }
}

template <class T>
void PanelTask<T>::flush_gathered(std::int64_t bi, std::int64_t i, std::int64_t rows) {
  if (gathered_.columns > 0) multiply_tile(bi, i, rows, gathered_);
  gathered_.columns = 0;
  gathered_.stretch_count = 0;
}

template <class T>
void PanelTask<T>::clear_columns(std::int64_t i, std::int64_t rows, std::int64_t j, std::int64_t j_end) {
  if (!choice_.keeps_sums && !choice_.dot) clear(panel_.out_at(place_, i, j), rows, j_end - j, choice_.zeros);
}

/// Whether block columns bj and bj + 1 have the same live k, and the same scales, in block row bi.
template <class T>
bool PanelTask<T>::same_tile(std::int64_t bi, std::int64_t bj) const {
  if (live_.out.present()) {
    const std::uint64_t* row = live_.out.row(batch_, bi);
    if (test_bit(row, bj) != test_bit(row, bj + 1)) return false;
    if (!test_bit(row, bj)) return true;
    if (live_.out.scaled && !(out_scale(bi, bj) == out_scale(bi, bj + 1))) return false;
  }
  if (!live_.rhs.present()) return true;
  if (live_.rhs.scaled) return false;
  for (std::int64_t word = word_begin_; word < word_end_; ++word) {
    if (live_word(bi, bj, word) != live_word(bi, bj + 1, word)) return false;
  }
  return true;
}

/// Few rows have wider tiles: as many sums, and fewer lists of k to make.
template <class T>
std::int64_t PanelTask<T>::tile_columns(std::int64_t rows) const {
  if (choice_.streams_b || choice_.dot) return choice_.tile_columns;
  const std::int64_t times = std::clamp<std::int64_t>(choice_.unit_rows / rows, 1, 4);
  return choice_.tile_columns * (times == 3 ? 2 : times);
}

template <class T>
bool PanelTask<T>::kept(std::int64_t bi, std::int64_t bj) const {
  return !live_.out.present() || test_bit(live_.out.row(batch_, bi), bj);
}

template <class T>
typename PanelTask<T>::Tile PanelTask<T>::next_tile(std::int64_t bi, std::int64_t j, std::int64_t rows) const {
  const std::int64_t limit = std::min(j_begin_ + round_up(j + 1 - j_begin_, tile_columns(rows)), j_end_);
  std::int64_t bj = j / column_block_;
  Tile tile;
  tile.bj = bj;
  tile.kept = kept(bi, bj);
  std::int64_t end = std::min((bj + 1) * column_block_, limit);
  while (end < limit && same_tile(bi, bj)) end = std::min((++bj + 1) * column_block_, limit);
  tile.add({j, end - j});
  return tile;
}

template <class T>
T PanelTask<T>::out_scale(std::int64_t bi, std::int64_t bj) const {
  if (!live_.out.scaled) return T(1);
  return core::element_as<T>(mask_out_ + bi * c_.mask_out.row_stride_bytes + bj * c_.mask_out.col_stride_bytes,
                             c_.mask_out.dtype);
}

template <class T>
typename PanelTask<T>::Scale PanelTask<T>::block_scale(std::int64_t bi, std::int64_t bj, std::int64_t bk) const {
  T lhs = 1, rhs = 1;
  if (live_.lhs.scaled) {
    lhs = core::element_as<T>(mask_lhs_ + bi * c_.mask_lhs.row_stride_bytes + bk * c_.mask_lhs.col_stride_bytes,
                              c_.mask_lhs.dtype);
  }
  if (live_.rhs.scaled) {
    rhs = core::element_as<T>(mask_rhs_ + bk * c_.mask_rhs.row_stride_bytes + bj * c_.mask_rhs.col_stride_bytes,
                              c_.mask_rhs.dtype);
  }
  const double product = static_cast<double>(lhs) * static_cast<double>(rhs);  // exact for two floats
  const double magnitude = std::fabs(product);
  const bool in_range = magnitude >= static_cast<double>(std::numeric_limits<T>::min()) &&
                        magnitude <= static_cast<double>(std::numeric_limits<T>::max());
  if (in_range || lhs == T(1) || rhs == T(1) || std::isnan(product)) return {static_cast<T>(product), T(1)};
  // The larger factor first: the sum then overflows only where the scaled sum does.
  if (std::fabs(lhs) < std::fabs(rhs)) std::swap(lhs, rhs);
  return {lhs, rhs};
}

/// Elements of a chunk of the tile's live k: many where those are one run or runs longer than
/// a chunk on average, which the hardware foresees.
template <class T>
std::int64_t PanelTask<T>::chunk_of(std::int64_t bi, std::int64_t bj, std::int64_t live_blocks) const {
  if (choice_.chunk == choice_.long_chunk) return choice_.chunk;
  std::int64_t runs = 0;
  std::uint64_t before = 0;
  for (std::int64_t word = word_begin_; word < word_end_; ++word) {
    const std::uint64_t bits = live_word(bi, bj, word);
    runs += std::popcount(bits & ~(bits << 1 | before));
    before = bits >> 63;
  }
  const bool is_foreseen = runs <= 1 || 4 * live_blocks * choice_.k.block >= 5 * runs * choice_.chunk;
  return is_foreseen ? choice_.long_chunk : choice_.chunk;
}

/// Live blocks of k in this range.
template <class T>
std::int64_t PanelTask<T>::count_live_k(std::int64_t bi, std::int64_t bj) const {
  std::int64_t count = 0;
  for (std::int64_t word = word_begin_; word < word_end_; ++word) count += std::popcount(live_word(bi, bj, word));
  return count;
}

/// Some k of the tile are live.
template <class T>
void PanelTask<T>::multiply_tile(std::int64_t bi, std::int64_t i, std::int64_t rows, const Tile& tile) {
  const std::int64_t live_blocks = count_live_k(bi, tile.bj);
  const std::int64_t chunk_blocks = std::max<std::int64_t>(1, chunk_of(bi, tile.bj, live_blocks) / choice_.k.block);
  const std::int64_t chunks = ceil_div(live_blocks, chunk_blocks);
  const bool scaled = live_.lhs.scaled || live_.rhs.scaled;
  const auto open = [&](bool first, Scale scale) {
    Unit<T>& unit = panel_.unit();
    unit.run_count = 0;
    unit.packs = false;
    unit.fresh_a = !read_a_;
    unit.k = 0;
    unit.i = i;
    unit.rows = rows;
    unit.columns = tile.columns;
    unit.lds = choice_.keeps_sums ? choice_.sums_ld : tile_columns(rows);
    unit.stretch_count = tile.stretch_count;
    std::copy_n(tile.stretches, tile.stretch_count, unit.stretches);
    unit.first = first && !choice_.keeps_sums;
    unit.last = false;
    unit.scale = scale.first;
    unit.scale_second = scale.second;
    unit.scale_out = T(1);
  };
  std::int64_t done = 0, chunk = 0, chunk_end = live_blocks / chunks;
  bool is_open = false;
  Scale scale{T(1), T(1)};
  for (std::int64_t word = word_begin_; word < word_end_; ++word) {
    for (std::uint64_t bits = live_word(bi, tile.bj, word); bits != 0; bits &= bits - 1) {
      const std::int64_t bk = word * 64 + std::countr_zero(bits);
      Scale block{T(1), T(1)};
      if (scaled) block = block_scale(bi, tile.bj, bk);
      if (is_open && (done == chunk_end || !(block == scale))) {
        panel_.push();
        is_open = false;
      }
      if (done == chunk_end) chunk_end = live_blocks * (++chunk + 1) / chunks;
      if (!is_open) {
        scale = block;
        open(done == 0, scale);
        is_open = true;
      }
      panel_.add_block(bk);
      ++done;
    }
  }
  if (!choice_.keeps_sums) {
    panel_.unit().last = true;
    if (!choice_.dot) panel_.unit().scale_out = out_scale(bi, tile.bj);
  }
  panel_.push();
  read_a_ |= !live_.rhs.present();
}

template <class T>
bool PanelTask<T>::any_live(std::int64_t bi, std::int64_t bj) const {
  if (!kept(bi, bj)) return false;
  if (!live_.lhs.present() && !live_.rhs.present()) return choice_.k.extent > 0;
  for (std::int64_t word = 0; word * 64 < choice_.k.count(); ++word) {
    std::uint64_t bits = bits_between(word, 0, choice_.k.count());
    if (live_.lhs.present()) bits &= live_.lhs.row(batch_, bi)[word];
    if (live_.rhs.present()) bits &= live_.rhs.row(batch_, bj)[word];
    if (bits != 0) return true;
  }
  return false;
}

/// The sums of all ranges of k -> the result.
template <class T>
void PanelTask<T>::finish() {
  // One block at a time: that neighbours agree was only looked at within one range of k.
  for (std::int64_t i = i_begin_, rows; i < i_end_; i += rows) {
    rows = std::min((i / row_block_ + 1) * row_block_, i_end_) - i;
    finish_rows(i, rows);
  }
}

template <class T>
void PanelTask<T>::finish_rows(std::int64_t i, std::int64_t rows) {
  const std::int64_t bi = i / row_block_;
  for (std::int64_t j = j_begin_; j < j_end_;) {
    const std::int64_t bj = j / column_block_;
    const std::int64_t end = std::min((bj + 1) * column_block_, j_end_);
    T* sums = sums_ + (i - i_begin_) * choice_.sums_ld + (j - j_begin_);
    if (choice_.dot) {
      if (any_live(bi, bj)) dot_.add(i, rows, j, end - j, sums, choice_.sums_ld);
    } else if (any_live(bi, bj)) {
      const T scale = out_scale(bi, bj);
      if (scale != T(1)) {
        for (std::int64_t row = 0; row < rows; ++row) {
          for (std::int64_t column = 0; column < end - j; ++column) sums[row * choice_.sums_ld + column] *= scale;
        }
      }
      unpack<T>(*choice_.set, sums, choice_.sums_ld, rows, end - j, panel_.out_at(place_, i, j));
    } else {
      clear(panel_.out_at(place_, i, j), rows, end - j, choice_.zeros);
    }
    j = end;
  }
}

template class PanelTask<float>;
template class PanelTask<double>;

}  // namespace maskmm::cpu
