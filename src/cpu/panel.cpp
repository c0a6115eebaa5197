#include "cpu/panel.hpp"

#include <algorithm>
#include <bit>

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
      packed_columns_(packed_columns),
      sliver_shift_(std::countr_zero(static_cast<std::uint64_t>(choice.sliver))) {}

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
void Panel<T>::set_rows(const T* a_rows, std::int64_t lda, std::int64_t a_step) {
  std::fill(read_, read_ + kReadWords, std::uint64_t{0});
  a_rows_ = a_rows;
  lda_ = lda;
  a_step_ = a_step;
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
  for (int index = 0; index < unit.stretch_count; ++index) {
    const Stretch& stretch = unit.stretches[index];
    for (std::int64_t j = stretch.j; j < stretch.j + stretch.columns; j += packed_columns_) {
      std::uint64_t& word = packed_word(j, bk);
      packed &= (word & bit) != 0;
      word |= bit;
    }
  }
  return packed;
}

/// The unit's `column` in B.
template <class T>
std::int64_t column_of(const Unit<T>& unit, std::int64_t column) {
  const Stretch* stretch = unit.stretches;
  for (; column >= stretch->columns && stretch + 1 < unit.stretches + unit.stretch_count; ++stretch)
    column -= stretch->columns;
  return stretch->j + column;
}

/// Marks A of block bk as read by a unit of these rows; whether it was so already.
template <class T>
bool Panel<T>::mark_read(std::int64_t bk) {
  const std::int64_t index = bk / 64 - place_.bk_begin / 64;
  if (index >= kReadWords) return false;
  const std::uint64_t bit = std::uint64_t{1} << (bk % 64);
  std::uint64_t& word = read_[index];
  const bool read = (word & bit) != 0;
  word |= bit;
  return read;
}

/// Packs what is fresh of `columns` of the unit, from its `column` on: where micro-kernels cannot do it on the way.
template <class T>
void Panel<T>::pack_b(const Unit<T>& unit, std::int64_t column, std::int64_t columns) {
  const Source source{unit.place.b, c_.b.dtype, c_.promoted, c_.b.row_stride_bytes, c_.b.col_stride_bytes};
  const std::int64_t sliver = choice_.sliver, elements = choice_.pairs != nullptr ? 2 : 1;
  for (int index = 0; index < unit.run_count; ++index) {
    const Run<T>& run = unit.runs[index];
    if (!run.fresh) continue;
    const std::int64_t k = unit.run_begins[index], rows = std::min(run.k * elements, c_.k.extent - k);
    for (std::int64_t done = 0, count; done < columns; done += count) {
      count = std::min(sliver, columns - done);
      const std::int64_t j = column_of(unit, column + done), padded = round_up(count, choice_.lanes);
      T* to = run.b + packed_offset(unit.place, j);
      const Source stretch = source.at(k, j);
      if (choice_.b_plain) {
        kernels_.copy_panel({stretch.data, c_.b.row_stride_bytes, rows, count, to, sliver});
      } else if (choice_.pairs != nullptr) {
        if constexpr (sizeof(T) == sizeof(float)) {
          pack_pairs_of_rows(*choice_.set, stretch, rows, count, to, sliver, padded);
        }
      } else {
        pack<T>(*choice_.set, stretch, rows, count, to, sliver, padded);
      }
    }
  }
}

/// Of column j in packed B, in elements.
template <class T>
std::int64_t Panel<T>::packed_offset(const Place<T>& place, std::int64_t j) const {
  std::int64_t column = j - place.j_begin;
  if (choice_.streams_b) column %= choice_.tile_columns;
  return (column >> sliver_shift_) * choice_.sliver_stride + (column & (choice_.sliver - 1));
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
  // Between two narrow tiles little else passes through the second-level cache.
  const bool fresh_a = !mark_read(bk) || unit.columns > 2 * choice_.lanes;
  const std::int64_t k_packed = choice_.streams_b ? unit.k : k;
  unit.k += size;
  unit.packs |= fresh;
  if (unit.run_count != 0) {
    Run<T>& run = unit.runs[unit.run_count - 1];
    if (run.a + run.k * a_step_ == a_rows_ + k * a_step_ && run.fresh == fresh && run.fresh_a == fresh_a) {
      run.k += size;
      return;
    }
  }
  const void* raw = fresh && choice_.b_plain ? raw_b(bk, unit.stretches[0].j) : nullptr;
  unit.run_begins[unit.run_count] = c_.k.begin(bk);
  unit.runs[unit.run_count++] = {a_rows_ + k * a_step_, panel_ + k_packed * choice_.sliver, raw, size, fresh, fresh_a};
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

/// Where the vectors of a micro-tile are, which has `columns` of the unit from its `column` on.
template <class T>
void Panel<T>::set_columns(const Unit<T>& unit, std::int64_t column, std::int64_t columns, bool direct,
                           MicroCall<T>* call) const {
  const std::int64_t lanes = choice_.lanes, j_first = column_of(unit, column);
  call->b_offsets[0] = packed_offset(unit.place, j_first);
  call->raw_offsets_bytes[0] = (j_first - unit.stretches[0].j) * c_.b.col_stride_bytes;
  for (int vector = 0; vector < kMaxPacked; ++vector) call->dst_offsets[vector] = vector * lanes;
  call->result_stretches = 1;
  call->result_offsets_bytes[0] = 0;
  call->result_bytes[0] = columns * c_.out.col_stride_bytes;
  if (!call->apart) return;
  for (int vector = 1; vector * lanes < columns; ++vector) {
    const std::int64_t j = column_of(unit, column + vector * lanes);
    call->b_offsets[vector] = packed_offset(unit.place, j);
    call->raw_offsets_bytes[vector] = (j - unit.stretches[0].j) * c_.b.col_stride_bytes;
    if (direct) call->dst_offsets[vector] = j - j_first;
  }
  if (unit.stretch_count == 1) return;
  for (int vector = 0; vector * lanes < columns; ++vector) {
    call->result_offsets_bytes[vector] = (column_of(unit, column + vector * lanes) - j_first) * c_.out.col_stride_bytes;
    call->result_bytes[vector] = lanes * c_.out.col_stride_bytes;
    call->result_stretches = vector + 1;
  }
}

/// The same columns of the next unit, as far as it has them.
template <class T>
void Panel<T>::set_next_columns(const Unit<T>& next, std::int64_t column, MicroCall<T>* call) const {
  const std::int64_t lanes = choice_.lanes, last = round_up(next.columns, lanes) - lanes;
  const int vectors = call->apart ? kMaxPacked : 1;
  for (int vector = 0; vector < vectors; ++vector) {
    const std::int64_t j = column_of(next, std::min(column + vector * lanes, last));
    call->next_b_offsets[vector] = packed_offset(next.place, j);
    call->next_raw_offsets_bytes[vector] = (j - next.stretches[0].j) * c_.b.col_stride_bytes;
  }
  call->next_side_by_side = next.stretch_count == 1;
}

/// Columns of a result whose columns are contiguous, to be written.
void prefetch_columns(const std::byte* column, std::int64_t bytes, std::int64_t stride_bytes, std::int64_t count) {
  constexpr std::int64_t kLine = 64;
  for (; count > 0; --count, column += stride_bytes) {
    for (std::int64_t byte = 0; byte < bytes; byte += kLine) __builtin_prefetch(column + byte, 1, 3);
    __builtin_prefetch(column + bytes - 1, 1, 3);
  }
}

template <class T>
void Panel<T>::execute(const Unit<T>& unit, const Unit<T>* next) {
  const std::int64_t sliver = choice_.sliver, lanes = choice_.lanes;
  T* sums = unit.place.sums;
  if (choice_.keeps_sums) sums += (unit.i - unit.place.i_begin) * unit.lds + (unit.stretches[0].j - unit.place.j_begin);
  const bool direct = unit.last && choice_.out_direct && unit.columns % lanes == 0;
  const Target out = out_at(unit.place, unit.i, 0);
  const std::int64_t out_size = static_cast<std::int64_t>(size_of(out.dtype));
  const bool contiguous = out.col_stride_bytes == out_size;
  const bool turned = !choice_.dot && !contiguous && out.row_stride_bytes == out_size;
  MicroCall<T> call;
  call.runs = unit.runs;
  call.runs_end = unit.runs + unit.run_count;
  call.next = next != nullptr ? next->runs : nullptr;
  call.next_end = next != nullptr ? next->runs + next->run_count : nullptr;
  // Units differ in length: the longer the next one, the more each step prefetches.
  const std::int64_t next_k = next != nullptr ? next->k : 0;
  call.next_lines = static_cast<int>(std::clamp<std::int64_t>(ceil_div(next_k, unit.k), 1, 4));
  call.lda = call.next_lda = lda_;
  call.a_step = a_step_;
  call.next_a_bytes = next != nullptr ? next->rows * static_cast<std::int64_t>(sizeof(T)) : 0;
  call.raw_ldb_bytes = c_.b.row_stride_bytes;
  call.ldb = sliver;
  call.into_first_level = choice_.along_rows;
  call.lds = unit.lds;
  call.ldd = direct ? out.row_stride_bytes / static_cast<std::int64_t>(sizeof(T)) : unit.lds;
  call.result_ld_bytes = out.row_stride_bytes;
  call.scaled = unit.scale != T(1) || unit.scale_second != T(1) || unit.scale_out != T(1);
  call.scale = unit.scale;
  call.scale_second = unit.scale_second;
  call.scale_out = unit.scale_out;
  const std::int64_t first_column = unit.stretches[0].j - unit.place.j_begin;
  for (std::int64_t column = 0, columns; column < unit.columns; column += columns) {
    columns = std::min(choice_.micro_columns, unit.columns - column);
    if (sliver > lanes) columns = std::min(columns, sliver - (first_column + column) % sliver);
    const bool wide = choice_.wide_rows && unit.columns - column > choice_.micro_columns;
    if (wide) columns = std::min(lanes * kernels_.row_vectors, (unit.columns - column) / lanes * lanes);
    const bool foreseen = wide && choice_.tile_columns * static_cast<std::int64_t>(sizeof(T)) == kForeseenBytes;
    call.next = foreseen || next == nullptr ? call.next_end : next->runs;
    const std::int64_t vectors = ceil_div(columns, lanes);
    const auto* kernels = choice_.a_down ? kernels_.micro_down : kernels_.micro;
    const auto& micro = (choice_.narrow ? kernels_.narrow : kernels)[vectors];
    const std::int64_t tallest = (choice_.narrow ? kernels_.narrow_rows : kernels_.rows)[vectors];
    const std::int64_t groups = ceil_div(unit.rows, tallest);
    call.apart = sliver == lanes && !wide;
    set_columns(unit, column, columns, direct, &call);
    if (call.next != call.next_end) set_next_columns(*next, column, &call);
    const bool packs_on_the_way = kernels_.packs_on_the_way && choice_.b_plain && columns % lanes == 0 &&
                                  (choice_.pairs == nullptr || c_.k.extent % 2 == 0);
    if (unit.packs && !packs_on_the_way) pack_b(unit, column, columns);
    call.copy_ldb = choice_.streams_b && groups == 1 ? 0 : sliver;
    call.next_a = column == 0 && next != nullptr && (next->fresh_a || !kernels_.fetches_a_once);
    std::byte* result = out.data + column_of(unit, column) * out.col_stride_bytes;
    T* dst = direct ? reinterpret_cast<T*>(result) : sums + column;
    std::int64_t group = 0;
    for (std::int64_t row = 0, rows; row < unit.rows; row += rows, ++group) {
      rows = std::min(round_up(ceil_div(unit.rows - row, groups - group), kernels_.row_step), unit.rows - row);
      call.rows = static_cast<int>(rows);
      call.a_offset = call.next_a_offset = row * lda_;
      call.reads_raw = unit.packs && packs_on_the_way && group == 0;
      call.next_b_row = group * kStep<T> / groups;
      call.next_b_end = call.reads_raw && call.copy_ldb == 0 ? call.next_b_row : (group + 1) * kStep<T> / groups;
      call.src = unit.first ? nullptr : sums + row * unit.lds + column;
      call.dst = dst + row * call.ldd;
      call.result = unit.last && contiguous ? result + row * out.row_stride_bytes : nullptr;
      if (unit.last && turned && unit.stretch_count == 1) {  // micro-kernels prefetch rows of a result
        const std::int64_t begin = columns * row / unit.rows, end = columns * (row + rows) / unit.rows;
        prefetch_columns(result + begin * out.col_stride_bytes, unit.rows * out_size, out.col_stride_bytes,
                         end - begin);
      }
      micro[rows](call);
    }
  }
  if (!unit.last || direct) return;
  for (int index = 0; index < unit.stretch_count; ++index) {
    const Stretch& stretch = unit.stretches[index];
    if (choice_.dot) {
      dot_->add(unit.i, unit.rows, stretch.j, stretch.columns, sums, unit.lds);
    } else {
      unpack<T>(*choice_.set, sums, unit.lds, unit.rows, stretch.columns, out_at(unit.place, unit.i, stretch.j));
    }
    sums += stretch.columns;
  }
}

template class Panel<float>;
template class Panel<double>;

}  // namespace maskmm::cpu
