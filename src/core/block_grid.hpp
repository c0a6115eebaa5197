// Extents, blocks and the ragged last block of one axis: the only place for such arithmetic.
#pragma once

#include <algorithm>
#include <cstdint>

namespace maskmm::core {

constexpr std::int64_t ceil_div(std::int64_t x, std::int64_t y) { return x / y + (x % y != 0); }
constexpr std::int64_t round_up(std::int64_t x, std::int64_t y) { return ceil_div(x, y) * y; }

struct BlockGrid {
  std::int64_t extent = 0;  // elements
  std::int64_t block = 64;  // elements of a whole block
  std::int64_t count() const { return ceil_div(extent, block); }
  std::int64_t begin(std::int64_t index) const { return index * block; }
  std::int64_t size(std::int64_t index) const { return std::min(block, extent - begin(index)); }
};

}  // namespace maskmm::core
