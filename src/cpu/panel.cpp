#include "cpu/panel.hpp"

#include <algorithm>

namespace maskmm::cpu {

using core::ceil_div;
using core::round_up;

template <class T>
Panel<T>::Panel(const core::Canonical& canonical, const Choice& choice, std::byte* scratch, std::int64_t packed_columns,
                DotBlocks<T>* dot)
    : c_(canonical),
      choice_(choice),
      kernels_(kernels_of<T>(choice)),
      dot_(dot),
      panel_(reinterpret_cast<T*>(scratch)),
      packed_(reinterpret_cast<std::uint64_t*>(scratch + choice.packed_offset)),
      packed_columns_(packed_columns) {}

template <class T>
void Panel<T>::open(const Place<T>& place) {
  place_ = place;
  if (choice_.streams_b) return;
  word_begin_ = place.bk_begin / 64;
  packed_words_ = ceil_div(place.bk_end, 64) - word_begin_;
  const std::int64_t packed_rows = ceil_div(place.j_end - place.j_begin, packed_columns_);
  std::fill(packed_, packed_ + packed_rows * packed_words_, std::uint64_t{0});
}

template <class T>
void Panel<T>::set_rows(const T* a_rows, std::int64_t lda) {
  a_rows_ = a_rows;
  lda_ = lda;
}

template <class T>
Target Panel<T>::out_at(const Place<T>& place, std::int64_t i, std::int64_t j) const {
  return {place.out + i * c_.out.row_stride_bytes + j * c_.out.col_stride_bytes, c_.out.dtype, c_.out.row_stride_bytes,
          c_.out.col_stride_bytes};
}

/// The word that says whether block bk of B is packed in the columns from j on, and its bit.
template <class T>
std::uint64_t& Panel<T>::packed_word(std::int64_t j, std::int64_t bk) {
  return packed_[(j - place_.j_begin) / packed_columns_ * packed_words_ + bk / 64 - word_begin_];
}

/// Marks block bk of B as packed where the unit needs it; whether it was so already.
template <class T>
bool Panel<T>::mark_packed(const Unit<T>& unit, std::int64_t bk) {
  if (choice_.streams_b) return false;
  const std::uint64_t bit = std::uint64_t{1} << (bk % 64);
  bool packed = true;
  for (std::int64_t j = unit.j; j < unit.j + unit.columns; j += packed_columns_) {
    std::uint64_t& word = packed_word(j, bk);
    packed &= (word & bit) != 0;
    word |= bit;
  }
  return packed;
}

/// Packs what is fresh of `columns` of the unit, from its `column` on: where micro-kernels cannot do it on the way.
template <class T>
void Panel<T>::pack_b(const Unit<T>& unit, std::int64_t column, std::int64_t columns) {
  const Source source{unit.place.b, c_.b.dtype, c_.promoted, c_.b.row_stride_bytes, c_.b.col_stride_bytes};
  const std::int64_t sliver = choice_.sliver, elements = choice_.pairs != nullptr ? 2 : 1;
  for (int index = 0; index < unit.run_count; ++index) {
    const Run<T>& run = unit.runs[index];
    if (!run.fresh) continue;
    T* to = run.b + packed_offset(unit, column);
    const std::int64_t k = unit.run_begins[index], rows = std::min(run.k * elements, c_.k.extent - k);
    const std::int64_t padded = round_up(columns, choice_.lanes);
    const Source stretch = source.at(k, unit.j + column);
    if (choice_.b_plain) {
      kernels_.copy_panel({stretch.data, c_.b.row_stride_bytes, rows, columns, to, sliver, choice_.sliver_stride});
    } else if (choice_.pairs != nullptr) {
      if constexpr (sizeof(T) == sizeof(float)) {
        pack_pairs_of_rows(*choice_.set, stretch, rows, columns, to, sliver, padded);
      }
    } else {
      pack<T>(*choice_.set, stretch, rows, columns, to, sliver, padded);
    }
  }
}

/// Of the unit's `column` in packed B, in elements.
template <class T>
std::int64_t Panel<T>::packed_offset(const Unit<T>& unit, std::int64_t column) const {
  column += unit.j - unit.place.j_begin;
  if (choice_.streams_b) column %= choice_.tile_columns;
  return column / choice_.sliver * choice_.sliver_stride + column % choice_.sliver;
}

/// Where B is plain: the first element of block bk in column j.
template <class T>
const void* Panel<T>::raw_b(std::int64_t bk, std::int64_t j) const {
  return place_.b + c_.k.begin(bk) * c_.b.row_stride_bytes + j * c_.b.col_stride_bytes;
}

template <class T>
void Panel<T>::add_block(std::int64_t bk) {
  Unit<T>& unit = units_[current_];
  const std::int64_t k = choice_.k.begin(bk) - place_.k_begin, size = choice_.k.size(bk);
  const bool fresh = !mark_packed(unit, bk);
  const std::int64_t k_packed = choice_.streams_b ? unit.k : k;
  unit.k += size;
  unit.packs |= fresh;
  if (unit.run_count != 0) {
    Run<T>& run = unit.runs[unit.run_count - 1];
    if (run.a + run.k == a_rows_ + k && run.fresh == fresh) {
      run.k += size;
      return;
    }
  }
  const void* raw = fresh && choice_.b_plain ? raw_b(bk, unit.j) : nullptr;
  unit.run_begins[unit.run_count] = c_.k.begin(bk);
  unit.runs[unit.run_count++] = {a_rows_ + k, panel_ + k_packed * choice_.sliver, raw, size, fresh};
}

template <class T>
void Panel<T>::push() {
  units_[current_].place = place_;
  if (pending_) execute(units_[1 - current_], &units_[current_]);
  pending_ = true;
  current_ = 1 - current_;
}

template <class T>
void Panel<T>::flush() {
  if (pending_) execute(units_[1 - current_], nullptr);
  pending_ = false;
}

template <class T>
void Panel<T>::execute(const Unit<T>& unit, const Unit<T>* next) {
  const std::int64_t sliver = choice_.sliver, lanes = choice_.lanes;
  T* sums = unit.place.sums;
  if (choice_.keeps_sums) sums += (unit.i - unit.place.i_begin) * choice_.sums_ld + (unit.j - unit.place.j_begin);
  const bool direct = unit.last && choice_.out_direct && unit.columns % lanes == 0;
  const Target out = out_at(unit.place, unit.i, unit.j);
  const bool contiguous = out.col_stride_bytes == static_cast<std::int64_t>(size_of(out.dtype));
  MicroCall<T> call;
  call.runs = unit.runs;
  call.runs_end = unit.runs + unit.run_count;
  call.next = next != nullptr ? next->runs : nullptr;
  call.next_end = next != nullptr ? next->runs + next->run_count : nullptr;
  // Units differ in length: the longer the next one, the more each step prefetches.
  const std::int64_t next_k = next != nullptr ? next->k : 0;
  call.next_lines = static_cast<int>(std::clamp<std::int64_t>(ceil_div(next_k, unit.k), 1, 4));
  call.lda = call.next_lda = lda_;
  call.raw_ldb_bytes = c_.b.row_stride_bytes;
  call.ldb = sliver;
  call.lds = choice_.sums_ld;
  call.ldd = direct ? out.row_stride_bytes / static_cast<std::int64_t>(sizeof(T)) : choice_.sums_ld;
  call.result_ld_bytes = out.row_stride_bytes;
  call.scaled = unit.scale != T(1) || unit.scale_second != T(1) || unit.scale_out != T(1);
  call.scale = unit.scale;
  call.scale_second = unit.scale_second;
  call.scale_out = unit.scale_out;
  T* dst = direct ? reinterpret_cast<T*>(out.data) : sums;
  const std::int64_t first_column = unit.j - unit.place.j_begin;
  for (std::int64_t column = 0, columns; column < unit.columns; column += columns) {
    const std::int64_t inside = (first_column + column) % sliver;
    columns = std::min(sliver - inside, unit.columns - column);
    const bool wide = choice_.wide_rows && unit.columns - column > sliver;
    if (wide) columns = std::min(lanes * kernels_.row_vectors, (unit.columns - column) / lanes * lanes);
    call.next = wide || next == nullptr ? call.next_end : next->runs;
    const std::int64_t vectors = ceil_div(columns, lanes), tallest = kernels_.rows[vectors];
    const std::int64_t groups = ceil_div(unit.rows, tallest);
    call.b_offset = packed_offset(unit, column);
    call.raw_offset_bytes = call.next_raw_offset_bytes = column * c_.b.col_stride_bytes;
    const bool packs_on_the_way = kernels_.packs_on_the_way && choice_.b_plain && columns % lanes == 0 &&
                                  (choice_.pairs == nullptr || c_.k.extent % 2 == 0);
    if (unit.packs && !packs_on_the_way) pack_b(unit, column, columns);
    call.copy_ldb = choice_.streams_b && groups == 1 ? 0 : sliver;
    call.next_b_offset = next != nullptr ? packed_offset(*next, column) : 0;
    call.next_a = column == 0 && next != nullptr && (next->fresh_a || !kernels_.fetches_a_once);
    std::int64_t group = 0;
    for (std::int64_t row = 0, rows; row < unit.rows; row += rows, ++group) {
      rows = std::min(round_up(ceil_div(unit.rows - row, groups - group), kernels_.row_step), unit.rows - row);
      call.rows = static_cast<int>(rows);
      call.a_offset = call.next_a_offset = row * lda_;
      call.reads_raw = unit.packs && packs_on_the_way && group == 0;
      call.next_b_row = group * kStep<T> / groups;
      call.next_b_end = call.reads_raw && call.copy_ldb == 0 ? call.next_b_row : (group + 1) * kStep<T> / groups;
      call.src = unit.first ? nullptr : sums + row * choice_.sums_ld + column;
      call.dst = dst + row * call.ldd + column;
      call.result =
          unit.last && contiguous ? out.data + row * out.row_stride_bytes + column * out.col_stride_bytes : nullptr;
      call.result_bytes = columns * out.col_stride_bytes;
      kernels_.micro[vectors][rows](call);
    }
  }
  if (!unit.last || direct) return;
  if (choice_.dot) {
    dot_->add(unit.i, unit.rows, unit.j, unit.columns, sums, choice_.sums_ld);
  } else {
    unpack<T>(*choice_.set, sums, choice_.sums_ld, unit.rows, unit.columns, out);
  }
}

template class Panel<float>;
template class Panel<double>;

}  // namespace maskmm::cpu
