#include "cpu/live.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <iterator>

#include "core/mask_value.hpp"

namespace maskmm::cpu {
namespace {

using core::Canonical;
using core::Operand;

BitRows layout(const Operand& mask, std::int64_t rows, std::int64_t bits) {
  BitRows result;
  if (!mask.present()) return result;
  result.rows = rows;
  result.bits = bits;
  result.words_per_row = core::ceil_div(bits, 64);
  result.batch_words = mask.batched() ? rows * result.words_per_row : 0;
  return result;
}

std::int64_t total_words(const Canonical& canonical, const BitRows& rows) {
  return rows.rows * rows.words_per_row * (rows.batch_words != 0 ? canonical.batch_size : 1);
}

BitRows lhs_layout(const Canonical& c) { return layout(c.mask_lhs, c.m.count(), c.k.count()); }
BitRows rhs_layout(const Canonical& c) { return layout(c.mask_rhs, c.n.count(), c.k.count()); }
BitRows out_layout(const Canonical& c) { return layout(c.mask_out, c.m.count(), c.n.count()); }

/// One bit for each of 8 bytes: whether it is nonzero.
std::uint64_t nonzero_bytes(std::uint64_t bytes) {
  constexpr std::uint64_t kLow = 0x7f7f7f7f7f7f7f7f;
  const std::uint64_t high = (((bytes & kLow) + kLow) | bytes) & ~kLow;
  return ((high >> 7) * 0x0102040810204080) >> 56;
}

/// Up to 64 mask values, `stride_bytes` apart, as bits; sets *scaled where a live one is not exactly 1.
template <class T>
std::uint64_t read_bits(const std::byte* from, std::int64_t stride_bytes, std::int64_t count, Dtype dtype,
                        bool* scaled) {
  std::uint64_t bits = 0;
  if (dtype == Dtype::bool_) {
    std::int64_t i = 0;
    if constexpr (std::endian::native == std::endian::little) {
      if (stride_bytes == 1) {
        for (; i + 8 <= count; i += 8) bits |= nonzero_bytes(core::load_unaligned<std::uint64_t>(from + i)) << i;
      }
    }
    for (; i < count; ++i) {
      bits |= std::uint64_t{core::load_unaligned<std::uint8_t>(from + i * stride_bytes) != 0} << i;
    }
    return bits;
  }
  for (std::int64_t i = 0; i < count; ++i) {
    const T value = core::element_as<T>(from + i * stride_bytes, dtype);
    if (!core::is_live(value)) continue;
    bits |= std::uint64_t{1} << i;
    if (value != T(1)) *scaled = true;
  }
  return bits;
}

template <class T>
void read_rows(const Canonical& canonical, const Operand& mask, BitRows* rows) {
  const std::int64_t batches = rows->batch_words != 0 ? canonical.batch_size : 1;
  for (std::int64_t index = 0; index < batches; ++index) {
    const std::byte* data = core::batch_data(mask, canonical.batch, index);
    std::uint64_t* words = rows->words + index * rows->batch_words;
    for (std::int64_t row = 0; row < rows->rows; ++row) {
      for (std::int64_t bit = 0; bit < rows->bits; bit += 64) {
        *words++ = read_bits<T>(data + row * mask.row_stride_bytes + bit * mask.col_stride_bytes, mask.col_stride_bytes,
                                std::min<std::int64_t>(64, rows->bits - bit), mask.dtype, &rows->scaled);
      }
    }
  }
}

/// Reads along the rows of the mask, which are contiguous as a rule, and transposes squares of 64 x 64 bits.
template <class T>
void read_columns(const Canonical& canonical, const Operand& mask, BitRows* rows) {
  const std::int64_t batches = rows->batch_words != 0 ? canonical.batch_size : 1;
  for (std::int64_t index = 0; index < batches; ++index) {
    const std::byte* data = core::batch_data(mask, canonical.batch, index);
    std::uint64_t* words = rows->words + index * rows->batch_words;
    for (std::int64_t k = 0; k < rows->bits; k += 64) {
      const std::int64_t ks = std::min<std::int64_t>(64, rows->bits - k);
      for (std::int64_t j = 0; j < rows->rows; j += 64) {
        const std::int64_t js = std::min<std::int64_t>(64, rows->rows - j);
        std::uint64_t square[64] = {};
        for (std::int64_t i = 0; i < ks; ++i) {
          square[i] = read_bits<T>(data + (k + i) * mask.row_stride_bytes + j * mask.col_stride_bytes,
                                   mask.col_stride_bytes, js, mask.dtype, &rows->scaled);
        }
        if (ks > 1 || js > 1) {
          // Swaps ever smaller off-diagonal squares (Hacker's Delight, 7-3, with bit 0 as the first column).
          std::uint64_t half = 0x00000000ffffffff;
          for (int width = 32; width != 0; width >>= 1, half ^= half << width) {
            for (int i = 0; i < 64; i = ((i | width) + 1) & ~width) {
              const std::uint64_t swap = ((square[i] >> width) ^ square[i | width]) & half;
              square[i] ^= swap << width;
              square[i | width] ^= swap;
            }
          }
        }
        for (std::int64_t i = 0; i < js; ++i) words[(j + i) * rows->words_per_row + k / 64] = square[i];
      }
    }
  }
}

template <class T>
void read_masks(const Canonical& canonical, Live* live) {
  if (live->lhs.present()) read_rows<T>(canonical, canonical.mask_lhs, &live->lhs);
  if (live->rhs.present()) read_columns<T>(canonical, canonical.mask_rhs, &live->rhs);
  if (live->out.present()) read_rows<T>(canonical, canonical.mask_out, &live->out);
}

}  // namespace

std::int64_t live_words(const Canonical& canonical) {
  return total_words(canonical, lhs_layout(canonical)) + total_words(canonical, rhs_layout(canonical)) +
         total_words(canonical, out_layout(canonical));
}

Live make_live(const Canonical& canonical, std::uint64_t* words) {
  Live live{lhs_layout(canonical), rhs_layout(canonical), out_layout(canonical)};
  const auto place = [&](const Operand& mask, BitRows* rows) {
    if (!mask.present()) return;
    rows->words = words;
    words += total_words(canonical, *rows);
  };
  place(canonical.mask_lhs, &live.lhs);
  place(canonical.mask_rhs, &live.rhs);
  place(canonical.mask_out, &live.out);
  if (canonical.accumulate == Dtype::float64) {
    read_masks<double>(canonical, &live);
  } else {
    read_masks<float>(canonical, &live);
  }
  return live;
}

namespace {

/// Adds to counts[bit] how many of the rows have each bit of a word; all `count` of them where there is no mask.
void count_bits(const BitRows& rows, std::int64_t index, std::int64_t count, std::int64_t word, double (&counts)[64]) {
  if (!rows.present()) {
    std::fill(std::begin(counts), std::end(counts), static_cast<double>(count));
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) {
    for (std::uint64_t left = rows.row(index, i)[word]; left != 0; left &= left - 1)
      counts[std::countr_zero(left)] += 1;
  }
}

/// Without mask_out: in each block of k, live rows of a times live columns of b.
double count_live_pairs(const Canonical& canonical, const Live& live, std::int64_t index) {
  const std::int64_t mb = canonical.m.count(), nb = canonical.n.count(), kb = canonical.k.count();
  if (!live.lhs.present() && !live.rhs.present()) {
    return static_cast<double>(mb) * static_cast<double>(nb) * static_cast<double>(kb);
  }
  double total = 0;
  for (std::int64_t word = 0; word * 64 < kb; ++word) {
    double lhs[64] = {}, rhs[64] = {};
    count_bits(live.lhs, index, mb, word, lhs);
    count_bits(live.rhs, index, nb, word, rhs);
    for (std::int64_t bit = 0; bit < std::min<std::int64_t>(64, kb - word * 64); ++bit) total += lhs[bit] * rhs[bit];
  }
  return total;
}

double count_live_with_out(const Canonical& canonical, const Live& live, std::int64_t index) {
  const std::int64_t mb = canonical.m.count(), nb = canonical.n.count(), kb = canonical.k.count();
  std::int64_t total = 0;
  for (std::int64_t bi = 0; bi < mb; ++bi) {
    const std::uint64_t* lhs = live.lhs.present() ? live.lhs.row(index, bi) : nullptr;
    const std::uint64_t* out = live.out.row(index, bi);
    for (std::int64_t bj = 0; bj < nb; ++bj) {
      if (!test_bit(out, bj)) continue;
      const std::uint64_t* rhs = live.rhs.present() ? live.rhs.row(index, bj) : nullptr;
      for (std::int64_t word = 0; word < core::ceil_div(kb, 64); ++word) {
        const std::uint64_t all = bits_between(word, 0, kb);
        total += std::popcount((lhs ? lhs[word] : all) & (rhs ? rhs[word] : all));
      }
    }
  }
  return static_cast<double>(total);
}

}  // namespace

double count_live(const Canonical& canonical, const Live& live) {
  const bool batched = live.lhs.batch_words != 0 || live.rhs.batch_words != 0 || live.out.batch_words != 0;
  const std::int64_t batches = batched ? canonical.batch_size : 1;
  double total = 0;
  for (std::int64_t index = 0; index < batches; ++index) {
    total +=
        live.out.present() ? count_live_with_out(canonical, live, index) : count_live_pairs(canonical, live, index);
  }
  return total * static_cast<double>(canonical.batch_size) / static_cast<double>(batches);
}

}  // namespace maskmm::cpu
