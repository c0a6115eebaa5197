#include "cpu/choose.hpp"

#include <algorithm>
#include <fstream>

namespace maskmm::cpu {
namespace {

using core::Canonical;
using core::ceil_div;
using core::Operand;
using core::round_up;

// Below this many multiply-adds waking other threads takes longer than the work.
constexpr double kInlineWork = 2e5;

// Above this many multiply-adds a thread, times the threads that are to be woken, a call takes so much longer than they
// do that they need not spin in between. Calls of about a millisecond between those of a library whose threads spin do.
constexpr double kLongWork = 1.2e8;

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

/// Columns of aligned neighbours of the accumulating type, and rows that are not.
bool has_plain_columns(const Operand& operand, Dtype accumulate) {
  const std::int64_t size = static_cast<std::int64_t>(size_of(accumulate));
  return operand.dtype == accumulate && operand.row_stride_bytes == size && operand.col_stride_bytes != size &&
         operand.col_stride_bytes % size == 0 && aligned_to(operand, size);
}

/// Whether micro-kernels read A down its columns, instead of a copy that each panel makes anew: where masks leave few
/// products to each copy. It pays where a micro-tile is as wide as a tile, so that each line comes from far away once.
bool reads_a_down(const Canonical& c, const KernelSet& set) {
  const bool has_kernels =
      c.accumulate == Dtype::float64 ? set.f64.micro_down[1][1] != nullptr : set.f32.micro_down[1][1] != nullptr;
  if (!has_kernels || c.m.extent <= 1 || !has_plain_columns(c.a, c.accumulate) || std::min(c.m.block, c.n.block) < 64) {
    return false;
  }
  constexpr std::int64_t kLongRow = 4096;  // bytes; panels are narrow then, and copies many
  const std::int64_t row_bytes = c.k.extent * static_cast<std::int64_t>(size_of(c.accumulate));
  return c.mask_rhs.present() || (c.mask_out.present() && row_bytes > kLongRow);
}

/// Rows of aligned pairs of bfloat16: a last one that is half outside cannot be read in place.
bool has_plain_pairs(const Operand& operand, std::int64_t columns) {
  return operand.col_stride_bytes == 2 && columns % 2 == 0 && aligned_to(operand, 4);
}

/// Of the cache that cores share: sysconf adds up all of a socket.
double last_cache_bytes() {
  static const double bytes = [] {
    std::ifstream file("/sys/devices/system/cpu/cpu0/cache/index3/size");  // such as 32768K
    double kib = 0;
    return file >> kib && kib > 0 ? kib * 1024 : 32.0 * (1 << 20);
  }();
  return bytes;
}

double bytes_of(const Canonical& c, const Operand& operand, std::int64_t rows, std::int64_t columns) {
  return static_cast<double>(c.batch_size) * static_cast<double>(rows) * static_cast<double>(columns) *
         static_cast<double>(size_of(operand.dtype));
}

// Memory for the sums of parts of K, all threads together.
constexpr std::int64_t kSumsBytes = std::int64_t{8} << 20;

/// Parts of a long K, where the result alone is too small to keep many threads busy. From the sizes of one matrix only:
/// the order of sums hangs on it.
template <class T>
std::int64_t choose_k_parts(const Canonical& c, std::int64_t K, std::int64_t panel_columns) {
  constexpr std::int64_t kShortest = 4096, kMostParts = 16, kBusy = 16;
  const std::int64_t tasks = ceil_div(c.m.extent, 256) * ceil_div(c.n.extent, panel_columns);
  if (tasks > kBusy) return 1;
  const std::int64_t sums_bytes = tasks * 256 * panel_columns * static_cast<std::int64_t>(sizeof(T));
  return std::clamp<std::int64_t>(std::min(K / kShortest, kSumsBytes / sums_bytes), 1, kMostParts);
}

/// Whether few rows walk along the rows of B instead of down its columns. A B from memory is read faster so: a page
/// holds many blocks that are neighbours. One row adds to its sums where its tiles would be narrow, or where rows of B
/// are live as a whole.
void choose_along_rows(const Canonical& c, std::int64_t micro_rows, Choice* choice) {
  constexpr std::int64_t kLeastBytes = std::int64_t{32} << 20;
  const auto size = static_cast<std::int64_t>(size_of(c.b.dtype));
  const bool is_large = c.n.extent * c.k.extent * size >= kLeastBytes;
  if (!is_large || !choice->streams_b || !choice->b_plain || choice->dot || c.m.extent > micro_rows) return;
  const bool narrow = c.mask_rhs.present() && c.n.block < std::max<std::int64_t>(32, choice->micro_columns);
  const bool whole = !c.mask_rhs.present() && !c.mask_out.present();
  choice->adds_row = (narrow || whole) && c.m.extent == 1 && choice->a_in_place && choice->pairs == nullptr;
  choice->along_rows = choice->adds_row || !narrow;
}

template <class T>
void choose_shapes(const Canonical& c, Choice* choice) {
  constexpr std::int64_t kSize = sizeof(T);
  const Kernels<T>& kernels = kernels_of<T>(*choice);
  const std::int64_t M = c.m.extent, N = c.n.extent, K = choice->k.extent;
  choice->lanes = kernels.lanes;
  choice->micro_columns = kernels.lanes * kernels.vectors;
  // Narrow blocks are dense in slivers as narrow: of wide ones they would use a part of the caches' sets only. Pairs
  // are packed two vectors at a time.
  const bool narrow_blocks = c.mask_out.present() || (c.mask_rhs.present() && choice->pairs == nullptr);
  const bool dense = choice->b_plain && narrow_blocks && c.n.block < choice->micro_columns;
  choice->sliver = dense ? kernels.lanes * kernels.sliver_vectors : choice->micro_columns;
  // With unit_rows: partial sums of 16 KiB, half of a first-level cache. Rows of 64 bfloat16 would be short to fetch.
  choice->tile_columns = choice->pairs != nullptr ? 128 : 256 / kSize;
  const std::int64_t least = 512 / kSize / choice->tile_columns;  // tiles of a panel
  choice->unit_rows = 64;

  // Where each block of B serves one unit, that packs it for itself.
  const bool rows_differ = c.mask_lhs.present() || c.mask_out.present();
  choice->streams_b = M <= choice->unit_rows && (!rows_differ || M <= c.m.block);
  // Where k has no gaps the hardware foresees what a longer chunk reads.
  choice->chunk = kernels.chunk;
  choice->long_chunk = choice->streams_b || choice->a_down ? kernels.chunk : kernels.long_chunk;

  choose_along_rows(c, kernels.rows[kernels.vectors], choice);
  // One row is read at the speed of memory: of long pieces of the rows of B, by the hardware's own prefetchers.
  choice->wide_rows = M == 1 && kernels.row_vectors > 0 && choice->b_plain && choice->pairs == nullptr && !choice->dot;
  const std::int64_t narrow = choice->tile_columns;
  if (choice->wide_rows && (!choice->along_rows || kernels.row_vectors * kernels.lanes * kSize >= kForeseenBytes)) {
    choice->tile_columns = kForeseenBytes / kSize;
  }
  choice->narrow =
      kernels.narrow_rows[1] > 0 && c.mask_rhs.present() && c.n.block == kernels.lanes && !choice->wide_rows;
  if (choice->narrow) choice->micro_columns = 2 * kernels.lanes;

  // Along K.
  choice->k_parts = choose_k_parts<T>(c, K, least * narrow);
  const std::int64_t part = ceil_div(K, choice->k_parts);
  std::int64_t longest = (choice->a_in_place ? 8192 : 4096) * 4 / kSize;
  // Where sums are kept in any case, short ranges leave room in the caches for wide panels, which read A once.
  if (choice->k_parts > 1) longest = 2048 / kSize;
  if (choice->a_in_place && choice->streams_b) longest = part;
  choice->part_ranges = std::max<std::int64_t>(1, ceil_div(part, std::max<std::int64_t>(longest, 1)));
  choice->k_range = std::min(K, round_up(ceil_div(part, choice->part_ranges), 256));
  if (choice->along_rows) {
    constexpr std::int64_t kTogether = 64;
    choice->k_range = round_up(kTogether, choice->k.block);
    choice->part_ranges = ceil_div(part, choice->k_range);
  }
  if (choice->k_parts > 1) choice->k_parts = ceil_div(K, choice->part_ranges * choice->k_range);  // none is empty
  choice->keeps_sums = choice->part_ranges > 1 || choice->k_parts > 1;
  const std::int64_t narrowest = choice->lanes * (choice->pairs != nullptr ? 2 : 1);
  choice->gathers = choice->sliver == kernels.lanes && kernels.vectors > 1 && !choice->streams_b &&
                    !choice->keeps_sums && c.n.block % narrowest == 0 && c.n.block < choice->tile_columns;

  // Wide panels reuse A, scattered blocks of which come from memory far away, and A that must be packed is packed
  // again for each. The panel and packed A stay below 5.2 MiB. But every thread should have several tasks.
  constexpr std::int64_t kPanelBytes = std::int64_t{4} << 20;
  const std::int64_t fewest = choice->a_in_place ? least : 2 * least;
  const std::int64_t packed_k = choice->streams_b ? std::max(choice->chunk, choice->k.block) : choice->k_range;
  const std::int64_t fitting = kPanelBytes / (std::max<std::int64_t>(packed_k, 1) * kSize) / choice->tile_columns;
  // Of a short K a panel may be a quarter as large and still far wider: fewer walks through the masks and the rows.
  std::int64_t tiles = std::max(std::clamp<std::int64_t>(fitting, fewest, 8), std::min<std::int64_t>(fitting / 4, 64));
  if (choice->along_rows) {
    const std::int64_t sums_bytes = choice->adds_row ? 32 << 10 : 256 << 10;  // of the first- or second-level cache
    tiles = std::max(least, sums_bytes / (M * kSize * choice->tile_columns));
  } else if (choice->k_parts > 1) {
    const std::int64_t all = ceil_div(N, choice->tile_columns);
    tiles = ceil_div(all, ceil_div(all, 4 * least));
  }
  const std::int64_t each = choice->along_rows ? 2 : 4;  // tasks of a thread: long rows are read faster
  const std::int64_t enough = choice->threads > 1 ? each * choice->threads : 1;
  // A panel of a dot has whole blocks: one task alone sums up a block's number.
  const std::int64_t whole = choice->dot ? ceil_div(c.n.block, choice->tile_columns) : 1;
  tiles = round_up(tiles, whole);
  const auto panels = [&] { return ceil_div(N, tiles * choice->tile_columns); };
  // Rows are cut last, since each range of them packs B anew; but before A is packed for more panels, and where A,
  // which panels read again, has far more rows than B has columns.
  const auto ranges = [&] {
    if (!choice->a_in_place) return std::clamp<std::int64_t>(M / 512, 1, 4);
    return std::clamp<std::int64_t>(panels() * M / (4 * std::max<std::int64_t>(N, 1)), 1, ceil_div(M, 256));
  };
  while (tiles / 2 >= fewest && tiles / 2 % whole == 0 && panels() * ranges() * choice->k_parts * c.batch_size < enough)
    tiles /= 2;
  choice->panel_columns = std::min(tiles * choice->tile_columns, round_up(N, choice->tile_columns));
  choice->panels = panels();
  const std::int64_t units = choice->panels * c.batch_size * choice->k_parts;
  choice->task_rows = M;
  if (units < enough) choice->task_rows = std::min(M, round_up(ceil_div(M, ceil_div(enough, units)), 256));
  if (choice->keeps_sums) {
    const std::int64_t rows = (std::int64_t{1} << 20) / (choice->panel_columns * kSize);
    choice->task_rows = std::min(choice->task_rows, std::max<std::int64_t>(256, rows / 256 * 256));
  }
  choice->row_ranges = ceil_div(M, choice->task_rows);
  choice->tasks = choice->row_ranges * units;
  const double work =
      static_cast<double>(M) * static_cast<double>(N) * static_cast<double>(K) * static_cast<double>(c.batch_size);
  if (work < kInlineWork) choice->threads = 1;
  choice->threads = static_cast<int>(std::min<std::int64_t>(choice->threads, choice->tasks));
  if (work > kLongWork * choice->threads * choice->threads) choice->idle = Idle::sleep;

  // Memory.
  const auto place = [&](std::int64_t* offset, std::int64_t bytes) {
    *offset = choice->scratch_bytes;
    choice->scratch_bytes = round_up(choice->scratch_bytes + bytes, 64);
  };
  std::int64_t panel_offset;
  // One row more, lest the rows of all slivers meet in the same sets of the caches.
  choice->sliver_stride = (packed_k + 1) * choice->sliver;
  const std::int64_t packed_columns = choice->streams_b ? choice->tile_columns : choice->panel_columns;
  place(&panel_offset, ceil_div(packed_columns, choice->sliver) * choice->sliver_stride * kSize);
  // Rows of packed A start in different sets of the first-level cache.
  choice->lda_packed = round_up(choice->k_range, kStep<T>) + kStep<T>;
  place(&choice->a_offset, choice->a_in_place ? 0 : std::min(choice->unit_rows, M) * choice->lda_packed * kSize);
  choice->sums_ld = choice->keeps_sums ? choice->panel_columns : choice->tile_columns;
  const std::int64_t sums_rows = choice->keeps_sums ? choice->task_rows : choice->unit_rows;
  const std::int64_t sums_bytes = sums_rows * choice->sums_ld * kSize;
  if (choice->k_parts > 1) {
    choice->task_sums_bytes = sums_bytes;
    choice->join_rows = c.m.block;
    choice->join_pieces = ceil_div(choice->task_rows, choice->join_rows);
    const std::int64_t element_tasks = choice->tasks / c.batch_size;
    const std::int64_t elements = std::max<std::int64_t>(1, kSumsBytes / (element_tasks * sums_bytes));
    choice->tasks_at_once = std::min(choice->tasks, elements * element_tasks);
  } else {
    place(&choice->sums_offset, sums_bytes);
    choice->tasks_at_once = choice->tasks;
  }
  const std::int64_t words = ceil_div(choice->k.count(), 64) + 1;
  const std::int64_t range_words = std::min(words, ceil_div(ceil_div(choice->k_range, choice->k.block), 64) + 1);
  place(&choice->packed_offset, choice->streams_b ? 0 : (ceil_div(choice->panel_columns, 16) + 1) * range_words * 8);
  place(&choice->x_offset, choice->dot && !choice->x_in_place ? choice->unit_rows * choice->tile_columns * kSize : 0);
}

}  // namespace

bool prefers_swapped_roles(const Canonical& canonical, const KernelSet& set) {
  constexpr std::int64_t kLeast = 128;  // a panel must be wide, and tasks many
  if (canonical.x.present() || std::min(canonical.m.extent, canonical.n.extent) < kLeast) return false;
  const auto runs_down = [](const Operand& operand) {
    const auto size = static_cast<std::int64_t>(size_of(operand.dtype));
    return operand.row_stride_bytes == size && operand.col_stride_bytes != size;
  };
  const bool only_rhs = canonical.mask_rhs.present() && !canonical.mask_lhs.present() && !canonical.mask_out.present();
  return runs_down(canonical.a) && (runs_down(canonical.b) || (only_rhs && !reads_a_down(canonical, set)));
}

Choice choose(const Canonical& canonical, const KernelSet& set, int max_threads) {
  Choice choice;
  choice.set = &set;
  choice.threads = max_threads;
  if (canonical.a.dtype == Dtype::bfloat16 && canonical.b.dtype == Dtype::bfloat16 &&
      canonical.accumulate == Dtype::float32) {
    choice.pairs = canonical.m.extent < kFewRows ? set.few_bfloat16_pairs : set.bfloat16_pairs;
  }
  if (choice.pairs != nullptr) {
    choice.k = {ceil_div(canonical.k.extent, 2), canonical.k.block / 2};
    choice.a_in_place = has_plain_pairs(canonical.a, canonical.k.extent);
    choice.b_plain = has_plain_rows(canonical.b, Dtype::bfloat16, canonical.n.extent);
  } else {
    choice.k = canonical.k;
    choice.a_in_place = has_plain_rows(canonical.a, canonical.accumulate, canonical.k.extent);
    choice.a_down = reads_a_down(canonical, set);
    choice.a_in_place |= choice.a_down;
    choice.b_plain = has_plain_rows(canonical.b, canonical.accumulate, canonical.n.extent);
  }
  choice.dot = canonical.x.present();
  choice.x_in_place = choice.dot && has_plain_rows(canonical.x, canonical.accumulate, canonical.n.extent);
  choice.out_direct = !choice.dot && has_plain_rows(canonical.out, canonical.accumulate, canonical.n.extent);
  const std::int64_t M = canonical.m.extent, N = canonical.n.extent, K = canonical.k.extent;
  const double result_bytes = bytes_of(canonical, canonical.out, M, N);
  if (!choice.dot && result_bytes >= last_cache_bytes()) choice.zeros = Store::streamed;
  if (canonical.accumulate == Dtype::float64) {
    choose_shapes<double>(canonical, &choice);
  } else {
    choose_shapes<float>(canonical, &choice);
  }
  const double operand_bytes = bytes_of(canonical, canonical.a, M, K) + bytes_of(canonical, canonical.b, K, N);
  choice.clears_first = canonical.mask_out.present() && !choice.dot && !choice.keeps_sums &&
                        canonical.out.col_stride_bytes == static_cast<std::int64_t>(size_of(canonical.out.dtype)) &&
                        result_bytes + operand_bytes > last_cache_bytes();
  return choice;
}

std::string kernel_name(const Choice& choice, Dtype accumulate) {
  const auto name = [&](const auto& kernels, const char* type) {
    return std::string("panel ") + type + " " +
           std::to_string(choice.narrow ? kernels.narrow_rows[2] : kernels.rows[kernels.vectors]) + "x" +
           std::to_string(choice.micro_columns);
  };
  if (accumulate == Dtype::float64) return name(kernels_of<double>(choice), "f64");
  return name(kernels_of<float>(choice), choice.pairs != nullptr ? "bf16" : "f32");
}

}  // namespace maskmm::cpu
