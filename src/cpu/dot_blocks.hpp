// DotBlocks: the end of a block_masked_dot's task. Takes the sums of the product, a few blocks at a time while they are
// in the cache, and adds the sum of x * sums to each block's number.
//
// The numbers of a task are its own: rows of a task start and end with a block, and so do the columns of a panel. A
// block larger than a tile gets its tiles' parts in the order of its rows, then of its columns, and how it is cut hangs
// on shapes and on which masks there are: never on threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/canonical.hpp"
#include "cpu/choose.hpp"

namespace maskmm::cpu {

template <class T>
class DotBlocks {
 public:
  DotBlocks(const core::Canonical& canonical, const Choice& choice, bool scaled, std::byte* scratch);
  /// Rows [i_begin, i_end) and columns [j_begin, j_end) of this batch element. The numbers become +0.
  void open(std::int64_t batch, std::int64_t i_begin, std::int64_t i_end, std::int64_t j_begin, std::int64_t j_end);
  /// Takes rows x columns sums from element (i, j) of the product on, none of them in a dead block.
  void add(std::int64_t i, std::int64_t rows, std::int64_t j, std::int64_t columns, const T* sums, std::int64_t lds);

 private:
  void add_tile(std::int64_t i, std::int64_t rows, std::int64_t j, std::int64_t columns, const T* sums,
                std::int64_t lds);
  T scale(std::int64_t bi, std::int64_t bj) const;

  const core::Canonical& c_;
  const Choice& choice_;
  bool scaled_;  // by mask_out
  bool plain_;   // x is read in place
  T* tile_;      // of x, where it is not
  const std::byte *x_ = nullptr, *mask_out_ = nullptr;
  std::byte* out_ = nullptr;
};

}  // namespace maskmm::cpu
