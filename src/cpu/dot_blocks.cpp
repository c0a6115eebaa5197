#include "cpu/dot_blocks.hpp"

#include <algorithm>
#include <cstring>

#include "core/mask_value.hpp"
#include "cpu/pack.hpp"

namespace maskmm::cpu {

template <class T>
DotBlocks<T>::DotBlocks(const core::Canonical& canonical, const Choice& choice, bool scaled, std::byte* scratch)
    : c_(canonical),
      choice_(choice),
      scaled_(scaled),
      plain_(choice.x_in_place),
      tile_(reinterpret_cast<T*>(scratch + choice.x_offset)) {}

template <class T>
void DotBlocks<T>::open(std::int64_t batch, std::int64_t i_begin, std::int64_t i_end, std::int64_t j_begin,
                        std::int64_t j_end) {
  x_ = core::batch_data(c_.x, c_.batch, batch);
  out_ = core::batch_data(c_.out, c_.batch, batch);
  if (scaled_) mask_out_ = core::batch_data(c_.mask_out, c_.batch, batch);
  const std::int64_t bi = i_begin / c_.m.block, bj = j_begin / c_.n.block;
  std::byte* const first = out_ + bi * c_.out.row_stride_bytes + bj * c_.out.col_stride_bytes;
  clear({first, c_.out.dtype, c_.out.row_stride_bytes, c_.out.col_stride_bytes},
        core::ceil_div(i_end - i_begin, c_.m.block), core::ceil_div(j_end - j_begin, c_.n.block), Store::cached);
}

template <class T>
void DotBlocks<T>::add(std::int64_t i, std::int64_t rows, std::int64_t j, std::int64_t columns, const T* sums,
                       std::int64_t lds) {
  const std::int64_t tile_rows = choice_.unit_rows, tile_columns = choice_.tile_columns;
  for (std::int64_t row = 0; row < rows; row += tile_rows) {
    for (std::int64_t column = 0; column < columns; column += tile_columns) {
      add_tile(i + row, std::min(tile_rows, rows - row), j + column, std::min(tile_columns, columns - column),
               sums + row * lds + column, lds);
    }
  }
}

template <class T>
void DotBlocks<T>::add_tile(std::int64_t i, std::int64_t rows, std::int64_t j, std::int64_t columns, const T* sums,
                            std::int64_t lds) {
  const std::byte* const from = x_ + i * c_.x.row_stride_bytes + j * c_.x.col_stride_bytes;
  const T* x = reinterpret_cast<const T*>(from);
  std::int64_t ldx = c_.x.row_stride_bytes / static_cast<std::int64_t>(sizeof(T));
  if (!plain_) {
    const Source source{from, c_.x.dtype, c_.promoted, c_.x.row_stride_bytes, c_.x.col_stride_bytes};
    pack<T>(*choice_.set, source, rows, columns, tile_, choice_.tile_columns, columns);
    x = tile_;
    ldx = choice_.tile_columns;
  }
  const auto sum_products = kernels_of<T>(*choice_.set).sum_products;
  for (std::int64_t row = 0, row_end; row < rows; row = row_end) {
    const std::int64_t bi = (i + row) / c_.m.block;
    row_end = std::min((bi + 1) * c_.m.block - i, rows);
    for (std::int64_t column = 0, column_end; column < columns; column = column_end) {
      const std::int64_t bj = (j + column) / c_.n.block;
      column_end = std::min((bj + 1) * c_.n.block - j, columns);
      const T part = scale(bi, bj) * sum_products(x + row * ldx + column, ldx, sums + row * lds + column, lds,
                                                  row_end - row, column_end - column);
      std::byte* const number = out_ + bi * c_.out.row_stride_bytes + bj * c_.out.col_stride_bytes;
      const T total = core::load_unaligned<T>(number) + part;
      std::memcpy(number, &total, sizeof total);
    }
  }
}

template <class T>
T DotBlocks<T>::scale(std::int64_t bi, std::int64_t bj) const {
  if (!scaled_) return T(1);
  return core::element_as<T>(mask_out_ + bi * c_.mask_out.row_stride_bytes + bj * c_.mask_out.col_stride_bytes,
                             c_.mask_out.dtype);
}

template class DotBlocks<float>;
template class DotBlocks<double>;

}  // namespace maskmm::cpu
