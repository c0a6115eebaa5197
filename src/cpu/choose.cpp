#include "cpu/choose.hpp"

#include <algorithm>

namespace maskmm::cpu {
namespace {

using core::Canonical;
using core::ceil_div;
using core::Operand;
using core::round_up;

// Below this many multiply-adds waking other threads takes longer than the work.
constexpr double kInlineWork = 2e5;

bool aligned_to(const Operand& operand, std::int64_t size) {
  if (reinterpret_cast<std::uintptr_t>(operand.data) % static_cast<std::uintptr_t>(size) != 0) return false;
  for (const std::int64_t stride : operand.batch_strides_bytes) {
    if (stride % size != 0) return false;
  }
  return operand.row_stride_bytes % size == 0;
}

/// Rows of aligned neighbours of the accumulating type.
bool has_plain_rows(const Operand& operand, Dtype accumulate, std::int64_t columns) {
  const std::int64_t size = static_cast<std::int64_t>(size_of(accumulate));
  return operand.dtype == accumulate && (operand.col_stride_bytes == size || columns <= 1) && aligned_to(operand, size);
}

template <class T>
void choose_shapes(const Canonical& c, const Kernels<T>& kernels, Choice* choice) {
  constexpr std::int64_t kSize = sizeof(T);
  const std::int64_t M = c.m.extent, N = c.n.extent, K = c.k.extent;
  choice->lanes = kernels.lanes;
  choice->sliver = kernels.lanes * kernels.vectors;
  choice->tile_columns = 256 / kSize;  // with unit_rows: partial sums of 16 KiB, half of a first-level cache
  choice->unit_rows = 64;
  choice->chunk = kernels.chunk;
  // Wide panels reuse A, scattered blocks of which come from memory far away; the panel and packed A stay below 5.2
  // MiB.
  constexpr std::int64_t kPanelBytes = std::int64_t{4} << 20;
  const std::int64_t fitting = kPanelBytes / (std::max<std::int64_t>(K, 1) * kSize) / choice->tile_columns;
  const std::int64_t tiles = std::clamp<std::int64_t>(fitting, choice->a_in_place ? 2 : 4, 8);
  choice->panel_columns = std::min(tiles * choice->tile_columns, round_up(N, choice->tile_columns));
  choice->k_range = std::min<std::int64_t>(K, (choice->a_in_place ? 8192 : 4096) * 4 / kSize);
  choice->k_ranges = std::max<std::int64_t>(1, ceil_div(K, std::max<std::int64_t>(1, choice->k_range)));
  choice->panels = ceil_div(N, choice->panel_columns);

  const std::int64_t units = choice->panels * c.batch_size;
  const double work =
      static_cast<double>(M) * static_cast<double>(N) * static_cast<double>(K) * static_cast<double>(c.batch_size);
  if (work < kInlineWork) choice->threads = 1;
  choice->task_rows = M;
  if (choice->threads > 1 && units < 4 * choice->threads) {
    const std::int64_t parts = ceil_div(4 * choice->threads, units);
    choice->task_rows = std::min(M, round_up(ceil_div(M, parts), 256));
  }
  if (choice->k_ranges > 1) {
    const std::int64_t rows = (std::int64_t{1} << 20) / (choice->panel_columns * kSize);
    choice->task_rows = std::min(choice->task_rows, std::max<std::int64_t>(256, rows / 256 * 256));
  }
  choice->row_ranges = ceil_div(M, choice->task_rows);
  choice->tasks = choice->row_ranges * units;
  choice->threads = static_cast<int>(std::min<std::int64_t>(choice->threads, choice->tasks));

  const auto place = [&](std::int64_t* offset, std::int64_t bytes) {
    *offset = choice->scratch_bytes;
    choice->scratch_bytes = round_up(choice->scratch_bytes + bytes, 64);
  };
  std::int64_t panel_offset;
  place(&panel_offset, choice->k_range * round_up(choice->panel_columns, choice->sliver) * kSize);
  // Rows of packed A start in different sets of the first-level cache.
  choice->lda_packed = round_up(choice->k_range, kStep<T>) + kStep<T>;
  place(&choice->a_offset, choice->a_in_place ? 0 : std::min(choice->unit_rows, M) * choice->lda_packed * kSize);
  choice->sums_ld = choice->k_ranges > 1 ? choice->panel_columns : choice->tile_columns;
  const std::int64_t sums_rows = choice->k_ranges > 1 ? choice->task_rows : std::min(choice->unit_rows, M);
  place(&choice->sums_offset, sums_rows * choice->sums_ld * kSize);
  const std::int64_t words = ceil_div(c.k.count(), 64) + 1;
  const std::int64_t range_words = std::min(words, ceil_div(ceil_div(choice->k_range, c.k.block), 64) + 1);
  place(&choice->used_offset, (ceil_div(choice->panel_columns, 16) + 1) * range_words * 8);
}

}  // namespace

Choice choose(const Canonical& canonical, const KernelSet& set, int max_threads) {
  Choice choice;
  choice.set = &set;
  choice.threads = max_threads;
  choice.a_in_place = has_plain_rows(canonical.a, canonical.accumulate, canonical.k.extent);
  choice.b_plain = has_plain_rows(canonical.b, canonical.accumulate, canonical.n.extent);
  choice.out_direct = has_plain_rows(canonical.out, canonical.accumulate, canonical.n.extent);
  if (canonical.accumulate == Dtype::float64) {
    choose_shapes(canonical, set.f64, &choice);
  } else {
    choose_shapes(canonical, set.f32, &choice);
  }
  return choice;
}

std::string kernel_name(const Choice& choice, Dtype accumulate) {
  const bool wide = accumulate == Dtype::float64;
  const int vectors = wide ? choice.set->f64.vectors : choice.set->f32.vectors;
  const int rows = wide ? choice.set->f64.rows[vectors] : choice.set->f32.rows[vectors];
  return std::string("panel ") + (wide ? "f64 " : "f32 ") + std::to_string(rows) + "x" + std::to_string(choice.sliver);
}

}  // namespace maskmm::cpu
