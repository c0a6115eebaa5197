#include "cuda/sm90/choose.hpp"

#include <algorithm>
#include <limits>

#include "cuda/sm90/config.hpp"
#include "cuda/sm90/kernels.hpp"
#include "cuda/sm90/small.hpp"
#include "cuda/sm90/wave.hpp"

namespace maskmm::cuda::sm90 {

using core::Canonical;
using core::Operand;

bool blocks_fit(const Canonical& canonical, std::int64_t of) {
  const bool out = canonical.mask_out.present(), lhs = canonical.mask_lhs.present(), rhs = canonical.mask_rhs.present();
  const auto fits = [of](const core::BlockGrid& grid) { return grid.block % of == 0; };
  return (!(out || lhs) || fits(canonical.m)) && (!(out || rhs) || fits(canonical.n)) &&
         (!(lhs || rhs) || fits(canonical.k));
}

namespace {

constexpr std::int64_t kMostStride = std::int64_t{1} << 40;  // of the copy engine

bool strides_fit(const Source& source, std::int64_t k, const Operand& operand, int rank) {
  if (!source.native || !source.vectors) return false;
  const std::int64_t outer = source.k_major ? source.lines : k;
  const std::int64_t stride = source.k_major ? source.line_stride : source.k_stride;
  if (outer > 1 && (stride <= 0 || stride >= kMostStride)) return false;
  for (int axis = 0; axis < rank; ++axis) {
    const std::int64_t batch = operand.batch_strides_bytes[axis];
    if (batch < 0 || batch >= kMostStride) return false;
  }
  return true;
}

/// Whether the copy engine can bring x, of a matrix that ends with whole eights.
bool x_fits(const Canonical& canonical, const Choice& choice) {
  const DotX& x = choice.x;
  const auto fits = [](std::int64_t stride, std::int64_t least) {
    return stride % 16 == 0 && stride >= least && stride < kMostStride;
  };
  bool good = x.dtype == choice.element && canonical.m.extent % 8 == 0 && canonical.n.extent % 8 == 0 &&
              reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0;
  for (int axis = 0; axis < canonical.batch.size(); ++axis) good = good && fits(x.batch.bytes[axis], 0);
  return good && ((x.col_stride == 2 && fits(x.row_stride, 16)) || (x.row_stride == 2 && fits(x.col_stride, 16)));
}

/// Those of an operand have kernels of their own; mask_out alone is looked at as sums are stored.
bool has_blocks_32(const Canonical& canonical) { return !blocks_fit(canonical, kBlock) && blocks_fit(canonical, 32); }

std::int64_t tiles(const Canonical& canonical, std::int64_t rows) {
  return core::ceil_div(canonical.m.extent, rows) * core::ceil_div(canonical.n.extent, kColumns) * canonical.batch_size;
}

/// The most of each list: every column in one set, and three tiles that are not full.
std::int64_t gathered_tiles(const Canonical& canonical) {
  return canonical.batch_size * core::ceil_div(canonical.m.extent, kGatheredRows * kBlock) *
         (core::ceil_div(canonical.n.extent, kColumns) + 3);
}

/// The most waves that are worth it: beyond, persistent blocks are faster. And the most parts of k, and the least of
/// one.
constexpr std::int64_t kMostWaves = 4, kMostPartsOfAWave = 8, kLeastStagesOfAPart = 8;

std::int64_t tiles_of(const Canonical& canonical, const Kernel& kernel) {
  return core::ceil_div(canonical.m.extent, kernel.rows) * core::ceil_div(canonical.n.extent, kernel.columns) *
         canonical.batch_size;
}

/// The time of a wave kernel in stages: each wave starts and stores; parts are written and read again. A mask_out is as
/// often a triangle as it is full.
double wave_cost(const Canonical& canonical, std::int64_t tiles, std::int64_t parts, const DeviceLimits& limits) {
  constexpr double kStart = 4, kSum = 8, kBytesOfAStage = 3.2e6;
  const double stages = static_cast<double>(core::ceil_div(core::ceil_div(canonical.k.extent, kBlock), parts));
  const double sums = static_cast<double>(canonical.m.extent) * static_cast<double>(canonical.n.extent) *
                      static_cast<double>(canonical.batch_size);
  double waves = static_cast<double>(core::ceil_div(tiles * parts, limits.sms));
  double bytes = parts > 1 ? 2 * 4 * sums * static_cast<double>(parts) : 0;
  if (canonical.mask_out.present()) {
    waves = (waves + static_cast<double>(core::ceil_div(tiles * parts, 2 * limits.sms))) / 2;
    bytes /= 2;
  }
  return waves * (stages + kStart) + (parts > 1 ? kSum : 0) + bytes / kBytesOfAStage;
}

}  // namespace

bool operands_fit(const Canonical& canonical, const Choice& choice) {
  const int rank = canonical.batch.size();
  return rank <= 2 && strides_fit(choice.a, canonical.k.extent, canonical.a, rank) &&
         strides_fit(choice.b, canonical.k.extent, canonical.b, rank);
}

std::string refusal(const Canonical& canonical, const Choice& choice, const DeviceLimits& limits) {
  if (limits.family == Family::sm80) return "MASKMM_CUDA_KERNELS is sm80";
  if (limits.capability != 90 || !limits.hopper_code) return "not a Hopper GPU";
  if (choice.element != Dtype::float16 && choice.element != Dtype::bfloat16) return "the type is not a 16-bit one";
  const bool dot = canonical.x.present();
  if (!dot && canonical.out.dtype != choice.element) return "the result has another type";
  if (canonical.batch.size() > 2) return "more than two batch axes";
  if (!operands_fit(canonical, choice)) {
    return "an operand's type, strides or address are not the copy engine's";
  }
  if (dot && !x_fits(canonical, choice)) return "x's type, strides or address are not the copy engine's";
  if (dot && !blocks_fit(canonical, kBlock)) return "blocks of a dot are not multiples of 64";
  if (!blocks_fit(canonical, kBlock) && !has_blocks_32(canonical)) {
    return "blocks are not multiples of 32";
  }
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max() - 4096;
  if (std::max({canonical.m.extent, canonical.n.extent, canonical.k.extent, canonical.batch_size * 32}) > kMost) {
    return "coordinates do not fit in 32 bits";
  }
  if (core::ceil_div(canonical.m.extent, kBlock) * core::ceil_div(canonical.n.extent, kColumns) * canonical.batch_size >
      kMost / 64) {
    return "too many tiles";
  }
  if (limits.family != Family::sm90) {
    if (tiles(canonical, 2 * kBlock) * 2 < limits.sms) return "too few tiles";
  }
  if (canonical.k.extent == 0) return "k is empty";
  return "";
}

Kernel choose_kernel(const Canonical& canonical, const Choice& choice, const DeviceLimits& limits,
                     std::string& reason) {
  const Layout a = choice.a.k_major ? Layout::k_major : Layout::line_major;
  const Layout b = choice.b.k_major ? Layout::k_major : Layout::line_major;
  Shape shape = Shape::wide_pair;
  const bool operands_masked = canonical.mask_lhs.present() || canonical.mask_rhs.present();
  if (has_blocks_32(canonical) && operands_masked) {
    const bool pairs = canonical.mask_rhs.present() || canonical.mask_out.present();
    shape = pairs ? Shape::any_masks_32 : Shape::blocks_32;
    reason = pairs ? "blocks of 32: pairs are skipped" : "blocks of 32: each is one instruction's n";
  } else if (canonical.x.present()) {
    const bool rows_only = !canonical.mask_rhs.present() && !canonical.mask_out.present();
    const bool pairs = !rows_only || tiles(canonical, 3 * kBlock) < 2 * limits.sms;
    shape = pairs ? Shape::dot_any_masks : Shape::dot_wide_pair;
    reason = pairs ? "any masks: pairs of blocks are skipped" : "two processors share rows of a";
  } else if (canonical.mask_out.present() && !canonical.mask_rhs.present() &&
             (has_blocks_32(canonical) || gathered_tiles(canonical) >= 2 * limits.sms)) {
    shape = Shape::gathered;
    reason = "tiles of the columns that mask_out keeps";
  } else if (canonical.mask_rhs.present() || canonical.mask_out.present()) {
    shape = Shape::any_masks;
    reason = "any masks: pairs of blocks are skipped";
  } else if (tiles(canonical, 3 * kBlock) < 2 * limits.sms) {
    shape = Shape::single;
    reason = "few tiles";
  } else {
    reason = "two processors share rows of a";
  }
  return choice.element == Dtype::float16 ? float16_kernel(shape, a, b) : bfloat16_kernel(shape, a, b);
}

Kernel scaling_kernel(const Canonical& canonical, const Choice& choice, const DeviceLimits& limits) {
  if (canonical.x.present()) return {};
  const int block = has_blocks_32(canonical) ? 32 : kBlock;
  const bool only_lhs = !canonical.mask_rhs.present() && !canonical.mask_out.present();
  const bool rows = only_lhs && (block == 32 || tiles(canonical, 2 * kBlock) >= 2 * limits.sms);
  const Skip skip = rows ? Skip::rows : Skip::pairs;
  const Layout a = choice.a.k_major ? Layout::k_major : Layout::line_major;
  const Layout b = choice.b.k_major ? Layout::k_major : Layout::line_major;
  return choice.element == Dtype::float16 ? float16_scaling_kernel(block, skip, a, b)
                                          : bfloat16_scaling_kernel(block, skip, a, b);
}

void add_workspace(const Canonical& canonical, const Kernel& kernel, WorkspaceLayout& layout) {
  constexpr std::int64_t kLists = 3;
  layout.counters = layout.bytes;
  layout.gathered = layout.counters + 256;
  layout.gathered_capacity = kernel.gathers ? static_cast<int>(gathered_tiles(canonical)) : 0;
  layout.bytes = layout.gathered + kLists * layout.gathered_capacity * std::int64_t{sizeof(GatheredTile)};
}

Wave choose_wave(const Canonical& canonical, const Choice& choice, const DeviceLimits& limits) {
  if (canonical.out.dtype != choice.element || canonical.k.extent == 0 || !operands_fit(canonical, choice) ||
      !blocks_fit(canonical, kBlock)) {
    return {};
  }
  const Layout a = choice.a.k_major ? Layout::k_major : Layout::line_major;
  const Layout b = choice.b.k_major ? Layout::k_major : Layout::line_major;
  const bool rows_only = !canonical.mask_out.present() && !canonical.mask_rhs.present();
  const Skip skip = rows_only ? Skip::rows : Skip::pairs;
  const auto kernel = [&](WaveKind kind) {
    return choice.element == Dtype::float16 ? float16_wave_kernel(kind, skip, a, b)
                                            : bfloat16_wave_kernel(kind, skip, a, b);
  };
  if (canonical.k.extent <= kMostSmallK) {
    for (const WaveKind kind : {WaveKind::square, rows_only ? WaveKind::flat : WaveKind::tall}) {
      if (tiles_of(canonical, kernel(kind)) <= limits.sms) return {kernel(kind)};
    }
  }
  Wave wave{kernel(WaveKind::wide)};
  const std::int64_t most = rows_only ? kMostWaves : 1;
  const std::int64_t tiles = tiles_of(canonical, wave.kernel);
  if (tiles * kMostPartsOfAWave < limits.sms || tiles > most * limits.sms || canonical.n.extent <= 2 * kBlock)
    return {};
  const std::int64_t stages = core::ceil_div(canonical.k.extent, kBlock);
  for (std::int64_t parts = 1; parts <= kMostPartsOfAWave && stages >= kLeastStagesOfAPart * parts; ++parts) {
    if (wave_cost(canonical, tiles, parts, limits) < wave_cost(canonical, tiles, wave.parts, limits)) {
      wave.parts = parts;
    }
  }
  if (core::ceil_div(stages, wave.parts) > kMostWaveStages) return {};
  return wave;
}

}  // namespace maskmm::cuda::sm90
