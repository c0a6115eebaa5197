// Mask contents -> bit rows. A bit row holds one bit for each block along an axis, in 64-bit words of any number.
#pragma once

#include <cstdint>

#include "core/canonical.hpp"

namespace maskmm::cpu {

/// One mask: `rows` bit rows for each batch element (or one set for all of them). Bits past the last block are zero.
struct BitRows {
  std::uint64_t* words = nullptr;  // null: absent, which is all ones
  std::int64_t rows = 0;
  std::int64_t bits = 0;
  std::int64_t words_per_row = 0;
  std::int64_t batch_words = 0;  // from one batch element to the next; 0: one mask for all
  bool scaled = false;           // some live value is not exactly 1

  bool present() const { return words != nullptr; }
  const std::uint64_t* row(std::int64_t batch_index, std::int64_t row_index) const {
    return words + batch_index * batch_words + row_index * words_per_row;
  }
};

struct Live {
  BitRows lhs;  // [bi]: along k
  BitRows rhs;  // [bj]: along k, so transposed
  BitRows out;  // [bi]: along n
};

/// Words that the bit rows of all masks take.
std::int64_t live_words(const core::Canonical& canonical);

/// Reads the masks. `words` has room for live_words.
Live make_live(const core::Canonical& canonical, std::uint64_t* words);

/// Live triples of all batch elements; reads no operand.
double count_live(const core::Canonical& canonical, const Live& live);

/// The bits of `word` that lie in [begin, end), all three in bits from the start of a row.
inline std::uint64_t bits_between(std::int64_t word, std::int64_t begin, std::int64_t end) {
  const std::int64_t first = begin - word * 64, last = end - word * 64;
  std::uint64_t bits = ~std::uint64_t{0};
  if (first > 0) bits &= first >= 64 ? 0 : ~std::uint64_t{0} << first;
  if (last < 64) bits &= last <= 0 ? 0 : ~std::uint64_t{0} >> (64 - last);
  return bits;
}

inline bool test_bit(const std::uint64_t* row, std::int64_t bit) { return row[bit >> 6] >> (bit & 63) & 1; }

}  // namespace maskmm::cpu
