#include "cuda/choose.hpp"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <utility>

#include "cuda/operands.hpp"
#include "cuda/plan.hpp"
#include "cuda/simt/direct.hpp"
#include "cuda/sm80/tf32.hpp"
#include "cuda/sm90/choose.hpp"
#include "cuda/sm90/few_rows.hpp"
#include "cuda/sm90/small.hpp"
#include "maskmm/error.hpp"

namespace maskmm::cuda {
namespace {

using core::Canonical;
using core::ceil_div;
using core::Operand;
using core::round_up;

constexpr std::int64_t kAlignment = 256;  // of the parts of the workspace
constexpr std::int64_t kMaxSplits = 32;
constexpr std::int64_t kLeastSplitK = 256;  // elements of k that are worth a tile of their own
constexpr std::int64_t kJoinedK = 64;
constexpr int kMaxStages = 8;
constexpr double kMostProductsOfSmall = 0x1p28;  // of the whole batch; measured: at 1024^3 persistent tiles are faster
constexpr double kMostProductsOfSmall32 = 0x1p27;
constexpr double kMostProductsOfTiny = 0x1p24;  // where tiles of 32 x 32 are as fast as Hopper's
constexpr std::int64_t kMostDirectK = 2048;
constexpr std::int64_t kLeastKOfMoreRows = 2048;
constexpr double kLeastProductsToPlan = 0x1p31;
constexpr double kMostBlocksToPlan = 0x1p24;
constexpr int kRowsPerGroup = 2048;  // of tiles that run side by side: about what L2 holds of a

double products_of(const Canonical& canonical) {
  return static_cast<double>(canonical.m.extent) * static_cast<double>(canonical.n.extent) *
         static_cast<double>(canonical.k.extent) * static_cast<double>(canonical.batch_size);
}

std::int64_t tiles_of(const Canonical& canonical, const Kernel& kernel) {
  return ceil_div(canonical.m.extent, kernel.rows) * ceil_div(canonical.n.extent, kernel.columns) *
         canonical.batch_size;
}

using FindKernel = Kernel (*)(TileKind, Masks);

/// The tile for 16-bit types and TF32. Where only mask_rhs is there, few block columns a tile; where tiles are few,
/// small ones.
Kernel choosing_kernel_16(const Canonical& canonical, const Choice& choice, const DeviceLimits& limits, FindKernel find,
                          std::string& reason) {
  const bool only_rhs = canonical.mask_rhs.present() && !canonical.mask_lhs.present();
  const bool hopper = limits.capability == 90 && limits.hopper_code;
  const Kernel large = find(!hopper ? TileKind::square : only_rhs ? TileKind::tall : TileKind::wide, Masks::choosing);
  if (!choice.a.vectors || !choice.b.vectors) {
    reason = "small tiles, more of whose threads load";
  } else if (canonical.m.extent <= 64 || canonical.n.extent <= 64) {
    reason = "one side of the result is at most 64";
  } else if (tiles_of(canonical, large) < limits.sms) {
    reason = "large tiles would leave processors idle";
  } else {
    reason = !hopper    ? "tiles enough for every processor"
             : only_rhs ? "mask_rhs alone: few block columns a tile"
                        : "tiles enough for every processor";
    return large;
  }
  return find(TileKind::small, Masks::choosing);
}

Kernel choosing_kernel(const Canonical& canonical, const Choice& choice, const DeviceLimits& limits,
                       std::string& reason) {
  switch (choice.element) {
    case Dtype::float16:
      return choosing_kernel_16(canonical, choice, limits, &float16_kernel, reason);
    case Dtype::bfloat16:
      return choosing_kernel_16(canonical, choice, limits, &bfloat16_kernel, reason);
    case Dtype::float64:
      reason = "float64 tensor cores";
      return float64_kernel(TileKind::square, Masks::choosing);
    default:
      if (choice.tf32) return choosing_kernel_16(canonical, choice, limits, &tf32_kernel, reason);
      reason = "float32 products in full precision";
      return float32_kernel(choice.a.k_major, choice.b.k_major, TileKind::square, Masks::choosing);
  }
}

/// Tiles of another size, for this type.
Kernel other_kernel(const Choice& choice, TileKind kind, Masks masks) {
  switch (choice.element) {
    case Dtype::float16:
      return float16_kernel(kind, masks);
    case Dtype::bfloat16:
      return bfloat16_kernel(kind, masks);
    case Dtype::float64:
      return float64_kernel(kind, masks);
    default:
      if (choice.tf32) return tf32_kernel(kind, masks);
      return float32_kernel(choice.a.k_major, choice.b.k_major, kind, masks);
  }
}

/// The tiles that the plan may prefer. Under one operand's mask alone, those of float32 and float64 are as large as the
/// others, but have half as many of the block rows (or columns) that the mask tells apart.
TileKind second_tile(const Canonical& canonical, const Choice& choice) {
  const bool lhs = canonical.mask_lhs.present(), rhs = canonical.mask_rhs.present();
  const bool full_precision = choice.element == Dtype::float64 || (choice.element == Dtype::float32 && !choice.tf32);
  if (!full_precision || canonical.mask_out.present() || lhs == rhs) return TileKind::small;
  return lhs ? TileKind::wide : TileKind::tall;
}

/// Splits of k that give every processor a tile, where the tiles of the result do not.
std::int64_t splits_of(const Canonical& canonical, const Kernel& kernel, const DeviceLimits& limits) {
  if (kernel.gathers || kernel.block == 32) return 1;
  const std::int64_t slots = std::int64_t{limits.sms} * kernel.blocks_per_sm, tiles = tiles_of(canonical, kernel);
  if (tiles * 2 > slots) return 1;
  return std::clamp(std::min(slots / tiles, canonical.k.extent / kLeastSplitK), std::int64_t{1}, kMaxSplits);
}

Launch make_launch(const Canonical& canonical, const Kernel& kernel, std::int64_t splits, const DeviceLimits& limits) {
  Launch launch;
  launch.kernel = kernel;
  Schedule& schedule = launch.schedule;
  schedule.tiles_m = ceil_div(canonical.m.extent, kernel.rows);
  const int cluster = std::max(1, kernel.cluster);  // blocks of a cluster stand side by side
  schedule.tiles_n = ceil_div(canonical.n.extent, kernel.columns * cluster);
  schedule.blocks_per_split = std::max<std::int64_t>(1, ceil_div(canonical.k.count(), splits));
  schedule.splits = splits;
  schedule.total = schedule.tiles_m * schedule.tiles_n * splits * canonical.batch_size;
  schedule.group = std::max(1, (kernel.cluster > 0 ? sm90::kRowsPerGroup : kRowsPerGroup) / kernel.rows);

  // 1 KB for what kernels declare themselves.
  const int shared = std::min(limits.shared_bytes_per_block - 1024,
                              limits.shared_bytes_per_sm / kernel.blocks_per_sm - 2048);  // 1 KB is the system's
  launch.stages = kernel.cluster > 0 ? sm90::kStages : std::clamp(shared / kernel.stage_bytes, 1, kMaxStages);
  if (launch.stages < 2) throw unsupported_error("CUDA: this GPU has too little shared memory");
  launch.blocks = std::min(schedule.total, std::int64_t{limits.sms} * kernel.blocks_per_sm / cluster) * cluster;
  return launch;
}

bool may_scale(const Operand& mask) { return mask.present() && mask.dtype != Dtype::bool_; }

/// Words and, for a mask that is not bool, values.
struct MaskBytes {
  std::int64_t words = 0, scales = 0;
};

MaskBytes mask_bytes(const Canonical& canonical, const Operand& mask, std::int64_t rows, std::int64_t columns) {
  if (!mask.present()) return {};
  const std::int64_t all_rows = rows * (mask.batched() ? canonical.batch_size : 1);
  return {
      all_rows * ceil_div(columns, 64) * 8,
      mask.dtype == Dtype::bool_ ? 0 : all_rows * columns * static_cast<std::int64_t>(size_of(canonical.accumulate))};
}

/// Whether a plan is worth its launch, and not too long: it weighs every tile.
bool plan_pays(const Canonical& canonical, const Kernel& kernel, const Kernel& small) {
  const bool masked = canonical.mask_out.present() || canonical.mask_lhs.present() || canonical.mask_rhs.present();
  const double blocks = static_cast<double>(canonical.m.count()) * static_cast<double>(canonical.n.count()) *
                        static_cast<double>(core::ceil_div(canonical.k.count(), 64)) *
                        static_cast<double>(canonical.batch_size);
  return masked && products_of(canonical) >= kLeastProductsToPlan && blocks <= kMostBlocksToPlan &&
         std::max(tiles_of(canonical, kernel), tiles_of(canonical, small)) <= kMostTilesToPlan;
}

Choice with_operands(const Canonical& canonical) {
  Choice choice;
  choice.element = canonical.accumulate == Dtype::float64 ? Dtype::float64 : canonical.promoted;
  choice.tf32 = choice.element == Dtype::float32 && canonical.precision == Precision::tf32;
  choice.a = make_source(canonical.a, true, canonical.m.extent, canonical.k.extent, choice.element);
  choice.b = make_source(canonical.b, false, canonical.n.extent, canonical.k.extent, choice.element);
  choice.out = make_result(canonical);
  choice.x = make_x(canonical, choice.element);
  return choice;
}

/// What the kernels need that read the masks' bytes themselves: vectors, and nothing to scale.
bool may_read_masks(const Canonical& canonical, const Choice& choice) {
  const auto is_bool = [](const Operand& mask) { return !mask.present() || mask.dtype == Dtype::bool_; };
  return !canonical.x.present() && choice.a.vectors && choice.b.vectors && is_bool(canonical.mask_out) &&
         is_bool(canonical.mask_lhs) && is_bool(canonical.mask_rhs);
}

bool is_16_bit(const Choice& choice) { return choice.element == Dtype::float16 || choice.element == Dtype::bfloat16; }

Kernel direct_kernel(Dtype element, TileKind kind) {
  return element == Dtype::float32 ? simt::direct_kernel() : sm80::direct_kernel(element, kind);
}

/// Whether the kernel for small problems takes the call; see direct.cuh.
bool is_small(const Canonical& canonical, const Choice& choice, const DeviceLimits& limits) {
  const bool is_32 = choice.element == Dtype::float32 && !choice.tf32;
  if (!is_16_bit(choice) && !is_32) return false;
  const int shared = direct_kernel(choice.element, TileKind::wide).stage_bytes + 8 * sm80::kMostDirectBlocks;
  return limits.family != Family::sm90 && shared + 1024 <= limits.shared_bytes_per_block &&
         may_read_masks(canonical, choice) &&
         products_of(canonical) <= (is_32 ? kMostProductsOfSmall32 : kMostProductsOfSmall) &&
         canonical.k.extent <= kMostDirectK && canonical.k.count() <= sm80::kMostDirectBlocks;
}

Kernel small_kernel(const Canonical& canonical, const Choice& choice, const DeviceLimits& limits) {
  const Kernel kernel = direct_kernel(choice.element, TileKind::wide);
  return tiles_of(canonical, kernel) < limits.sms ? direct_kernel(choice.element, TileKind::small) : kernel;
}

/// The wave kernel of a call; none where it does not take it.
sm90::Wave choose_wave(const Canonical& canonical, const Choice& choice, const DeviceLimits& limits) {
  const bool fits = limits.capability == 90 && limits.hopper_code && limits.family == Family::best &&
                    is_16_bit(choice) && may_read_masks(canonical, choice) &&
                    products_of(canonical) >= kMostProductsOfTiny &&
                    std::min(canonical.m.extent, canonical.n.extent) > sm80::kMoreRows;
  return fits ? sm90::choose_wave(canonical, choice, limits) : sm90::Wave{};
}

/// Hopper's kernel for small problems with blocks of less than 64; none where it does not take the call.
Kernel hopper_small_kernel(const Canonical& canonical, const Choice& choice, const DeviceLimits& limits) {
  if (limits.capability != 90 || !limits.hopper_code || limits.family != Family::best) return {};
  if (products_of(canonical) <= kMostProductsOfTiny || canonical.m.extent <= sm80::kFewRows) return {};
  if (canonical.k.extent == 0 || canonical.k.extent > sm90::kMostSmallK) return {};
  if (!is_16_bit(choice) || !may_read_masks(canonical, choice) || !sm90::operands_fit(canonical, choice)) return {};
  for (const TileKind kind : {TileKind::small, TileKind::tall}) {
    const Kernel kernel = sm90::small_kernel(choice.element, kind);
    if (tiles_of(canonical, kernel) <= limits.sms) return kernel;
  }
  return {};
}

/// Whether mask_out and mask_lhs say the same of all rows of the result.
bool has_one_row_of_blocks(const Canonical& canonical) {
  return canonical.m.count() == 1 || !(canonical.mask_out.present() || canonical.mask_lhs.present());
}

/// Hopper's kernel for at most 64 rows of which tiles are many enough; none where it does not take the call.
Kernel hopper_few_rows_kernel(const Canonical& canonical, const Choice& choice, const DeviceLimits& limits) {
  if (limits.capability != 90 || !limits.hopper_code || limits.family != Family::best) return {};
  if (!is_16_bit(choice) || canonical.m.extent <= sm80::kFewRows || canonical.m.extent > sm90::kBlock) return {};
  if (products_of(canonical) <= kMostProductsOfTiny || canonical.k.extent > sm90::kMostFewRowsK) return {};
  if (!may_read_masks(canonical, choice) || !sm90::operands_fit(canonical, choice)) return {};
  const bool out = canonical.mask_out.present(), lhs = canonical.mask_lhs.present(), rhs = canonical.mask_rhs.present();
  const auto whole = [](std::int64_t block) { return block % sm90::kBlock == 0; };
  if (!has_one_row_of_blocks(canonical) || ((out || rhs) && !whole(canonical.n.block)) ||
      ((lhs || rhs) && !whole(canonical.k.block))) {
    return {};
  }
  const Kernel kernel = sm90::few_rows_kernel(choice.element);
  return tiles_of(canonical, kernel) * 2 > limits.sms ? kernel : Kernel{};
}

std::string rows_reason(const Canonical& canonical, int rows) {
  return "at most " + std::to_string(rows) + " rows: live blocks of " + (canonical.swapped ? "a" : "b") +
         " are read once";
}

void choose_small(const Canonical& canonical, const Kernel& kernel, std::string reason, Choice& choice,
                  std::int64_t parts = 1) {
  Launch& launch = choice.choosing;
  launch.kernel = kernel;
  launch.stages = 1;
  Schedule& schedule = launch.schedule;
  schedule.tiles_m = ceil_div(canonical.m.extent, launch.kernel.rows);
  schedule.tiles_n = ceil_div(canonical.n.extent, launch.kernel.columns);
  schedule.group = schedule.tiles_m;
  schedule.splits = parts, schedule.blocks_per_split = canonical.k.count();
  schedule.total = launch.blocks = schedule.tiles_m * schedule.tiles_n * schedule.splits * canonical.batch_size;
  choice.direct = true;
  choice.reason = std::move(reason);
  choice.workspace = make_workspace(canonical, choice, false);
}

/// Whether the kernel for few rows takes the call; see few_rows.cuh for its limits.
bool has_few_rows(const Canonical& canonical, const Choice& choice, const DeviceLimits& limits) {
  if (!is_16_bit(choice) || canonical.m.extent > sm80::kMoreRows) return false;
  const int shared = sm80::few_rows_kernel(choice.element, choice.b.k_major, canonical.m.extent).shared_bytes;
  const bool masked = canonical.mask_out.present() || canonical.mask_lhs.present() || canonical.mask_rhs.present();
  const bool pays = canonical.m.extent <= sm80::kFewRows || (masked && canonical.k.extent >= kLeastKOfMoreRows);
  return limits.family != Family::sm90 && has_one_row_of_blocks(canonical) && pays &&
         shared + 8192 <= limits.shared_bytes_per_block && may_read_masks(canonical, choice) &&
         canonical.n.block >= 64 && canonical.k.block >= (choice.b.k_major ? 32 : 16) && choice.a.k_major &&
         canonical.n.extent % 8 == 0 && canonical.k.extent % 8 == 0 && canonical.n.extent > 64 &&
         canonical.k.count() < 1 << 27;
}

/// Every live block of b once, at the speed of memory; k is split until every processor reads.
void choose_few_rows(const Canonical& canonical, const DeviceLimits& limits, Choice& choice) {
  choice.few_rows = sm80::few_rows_kernel(choice.element, choice.b.k_major, canonical.m.extent);
  Launch& launch = choice.choosing;
  launch.kernel.name = choice.few_rows.name;
  launch.kernel.threads = choice.few_rows.threads;
  launch.kernel.rows = choice.few_rows.rows, launch.kernel.columns = sm80::kFewRowsColumns;
  launch.kernel.blocks_per_sm = 1;
  Schedule& schedule = launch.schedule;
  const std::int64_t k_blocks = canonical.k.count();
  schedule.blocks_per_split =
      std::max<std::int64_t>(1, ceil_div(k_blocks, splits_of(canonical, launch.kernel, limits)));
  schedule.splits = std::max<std::int64_t>(1, ceil_div(k_blocks, schedule.blocks_per_split));
  schedule.tiles_m = schedule.group = 1;
  schedule.tiles_n = ceil_div(canonical.n.extent, sm80::kFewRowsColumns);
  schedule.total = schedule.tiles_n * schedule.splits * canonical.batch_size;
  launch.blocks = std::min<std::int64_t>(schedule.total, std::int64_t{limits.sms} * 16);
  choice.reason = rows_reason(canonical, choice.few_rows.rows);
  if (schedule.splits > 1) {
    choice.reason += "; k in " + std::to_string(schedule.splits) + " parts, summed in order";
  }
  choice.workspace = make_workspace(canonical, choice, false);
}

}  // namespace

WorkspaceLayout make_workspace(const Canonical& canonical, const Choice& choice, bool packs_masks) {
  const std::int64_t splits = choice.choosing.schedule.splits;
  WorkspaceLayout layout;
  const auto take = [&](std::int64_t bytes) {
    const std::int64_t offset = layout.bytes;
    layout.bytes += round_up(bytes, kAlignment);
    return offset;
  };
  const std::int64_t m = canonical.m.count(), n = canonical.n.count(), k = canonical.k.count();
  if (packs_masks) {
    const MaskBytes out = mask_bytes(canonical, canonical.mask_out, m, n);
    const MaskBytes lhs = mask_bytes(canonical, canonical.mask_lhs, m, k);
    const MaskBytes rhs = mask_bytes(canonical, canonical.mask_rhs, n, k);
    layout.scaled = take(may_scale(canonical.mask_lhs) || may_scale(canonical.mask_rhs) ? 4 : 0);
    layout.words_out = take(out.words), layout.words_lhs = take(lhs.words), layout.words_rhs = take(rhs.words);
    layout.scales_out = take(out.scales), layout.scales_lhs = take(lhs.scales), layout.scales_rhs = take(rhs.scales);
  }
  const bool dot = canonical.x.present();  // a number for each square of 16 x 16
  const std::int64_t sums = splits * canonical.batch_size * ceil_div(canonical.m.extent, dot ? 16 : 1) *
                            ceil_div(canonical.n.extent, dot ? 16 : 1);
  layout.partial = take(splits > 1 || dot ? sums * static_cast<std::int64_t>(size_of(canonical.accumulate)) : 0);
  if (choice.plans) {
    layout.plan = take(sizeof(PlanHeader));
    const Launch* launches[] = {&choice.choosing, &choice.small, &choice.scaling};
    for (int i = 0; i < kCandidates; ++i) {
      if (!launches[i]->kernel.function) continue;
      layout.weights[i] = take(4 * launches[i]->schedule.total);
      layout.tiles[i] = take(4 * launches[i]->schedule.total);
    }
  }
  return layout;
}

Canonical orient(const Canonical& given, const DeviceLimits& limits) {
  Canonical canonical = given;
  // Blocks of k that no mask tells apart are joined: kernels walk k by live blocks, and Hopper's take 64 of k a step.
  if (!canonical.mask_lhs.present() && !canonical.mask_rhs.present()) {
    canonical.k.block = std::max(canonical.k.block, kJoinedK);
  }
  Canonical swapped = canonical;
  core::swap_roles(swapped);
  const auto few_rows = [&](const Canonical& c) {
    const Choice choice = with_operands(c);
    return has_few_rows(c, choice, limits) || hopper_few_rows_kernel(c, choice, limits).function != nullptr;
  };
  const auto narrower = [&](std::int64_t most) { return canonical.n.extent <= most && canonical.m.extent > most; };
  const bool only_rhs = canonical.mask_rhs.present() && !canonical.mask_lhs.present();
  if (narrower(sm80::kFewRows) && few_rows(swapped)) return swapped;
  if (const sm90::Wave wave = choose_wave(canonical, with_operands(canonical), limits); wave.kernel.function) {
    const bool wide = wave.kernel.columns > wave.kernel.rows;  // rows are skipped by longer instructions
    return only_rhs && wide && choose_wave(swapped, with_operands(swapped), limits).kernel.function ? swapped
                                                                                                    : canonical;
  }
  if (hopper_small_kernel(canonical, with_operands(canonical), limits).function) return canonical;
  if (narrower(sm90::kBlock) && few_rows(swapped)) return swapped;
  if (only_rhs && !few_rows(canonical) && sm90::refusal(canonical, with_operands(canonical), limits).empty()) {
    return swapped;  // Hopper's tiles skip rows
  }
  return canonical;
}

Choice choose(const Canonical& canonical, const DeviceLimits& limits) {
  if (limits.capability < 80) {
    throw unsupported_error("CUDA: expected a GPU of compute capability 8.0 or later, got " +
                            std::to_string(limits.capability / 10) + "." + std::to_string(limits.capability % 10));
  }
  for (const std::int64_t count : {canonical.m.count(), canonical.n.count(), canonical.k.count()}) {
    if (count > std::numeric_limits<std::int32_t>::max()) {
      throw unsupported_error("CUDA: expected at most 2147483647 blocks along an axis, got " + std::to_string(count));
    }
  }
  Choice choice = with_operands(canonical);
  constexpr const char* kSmall = "a small problem: one launch, which reads the masks itself";
  if (const sm90::Wave wave = choose_wave(canonical, choice, limits); wave.kernel.function) {
    choose_small(canonical, wave.kernel, "few tiles: a block has one, and reads the masks itself", choice, wave.parts);
    if (wave.parts > 1) choice.reason += "; k in " + std::to_string(wave.parts) + " parts, summed in order";
    return choice;
  }
  if (const Kernel small = hopper_small_kernel(canonical, choice, limits); small.function) {
    choose_small(canonical, small, kSmall, choice);
    return choice;
  }
  if (const Kernel few = hopper_few_rows_kernel(canonical, choice, limits); few.function) {
    choose_small(canonical, few, rows_reason(canonical, few.rows), choice);
    return choice;
  }
  if (is_small(canonical, choice, limits) &&
      (canonical.m.extent > sm80::kFewRows || products_of(canonical) <= kMostProductsOfTiny)) {
    choose_small(canonical, small_kernel(canonical, choice, limits), kSmall, choice);
    return choice;
  }
  if (has_few_rows(canonical, choice, limits)) {
    choose_few_rows(canonical, limits, choice);
    return choice;
  }
  const std::string refusal = sm90::refusal(canonical, choice, limits);
  const Kernel kernel = refusal.empty() ? sm90::choose_kernel(canonical, choice, limits, choice.reason)
                                        : choosing_kernel(canonical, choice, limits, choice.reason);
  if (!refusal.empty()) choice.reason += "; not the Hopper kernel: " + refusal;
  const std::int64_t blocks_per_split =
      std::max<std::int64_t>(1, ceil_div(canonical.k.count(), splits_of(canonical, kernel, limits)));
  const std::int64_t splits = std::max<std::int64_t>(1, ceil_div(canonical.k.count(), blocks_per_split));
  choice.choosing = make_launch(canonical, kernel, splits, limits);
  if (may_scale(canonical.mask_lhs) || may_scale(canonical.mask_rhs)) {
    Kernel scaling = refusal.empty() ? sm90::scaling_kernel(canonical, choice, limits) : Kernel{};
    if (!scaling.function) scaling = other_kernel(choice, TileKind::square, Masks::scaling);
    choice.scaling = make_launch(canonical, scaling, splits, limits);
  }
  const Kernel small = other_kernel(choice, second_tile(canonical, choice), Masks::choosing);
  choice.plans = splits == 1 && kernel.cluster == 0 && plan_pays(canonical, kernel, small);
  if (choice.plans && small.function != kernel.function) choice.small = make_launch(canonical, small, 1, limits);
  if (splits > 1) choice.reason += "; k in " + std::to_string(splits) + " parts, summed in order";
  for (const auto& [name, source] : {std::pair{"a", &choice.a}, {"b", &choice.b}}) {
    if (!source->vectors) {
      choice.reason += std::string("; ") + (canonical.swapped == (*name == 'a') ? "b" : "a") +
                       " is read element by element: " +
                       (source->dtype != choice.element ? "its type is converted"
                                                        : "its strides or address are not "
                                                          "multiples of 16 bytes");
    }
  }
  choice.workspace = make_workspace(canonical, choice, true);
  if (kernel.cluster > 0) sm90::add_workspace(canonical, kernel, choice.workspace);
  return choice;
}

}  // namespace maskmm::cuda
