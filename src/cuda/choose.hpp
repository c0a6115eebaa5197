// Which kernel, which tiles, how much scratch memory: from shapes, types, strides, alignment and the device, never from
// what the masks hold. Runs without a GPU.
#pragma once

#include <string>

#include "core/canonical.hpp"
#include "cuda/kernel_table.hpp"
#include "cuda/sm80/direct.hpp"
#include "cuda/sm80/few_rows.hpp"

namespace maskmm::cuda {

/// Which kernels MASKMM_CUDA_KERNELS allows: all, those of sm80 and simt alone, or Hopper's wherever they can run.
enum class Family { best, sm80, sm90 };

struct DeviceLimits {
  int capability = 90;      // 10 * major + minor
  bool hopper_code = true;  // the code that runs was compiled for sm_90a, not for sm_80 and then translated
  int sms = 132;
  int shared_bytes_per_block = 227 << 10;
  int shared_bytes_per_sm = 228 << 10;
  Family family = Family::best;
};

/// How one kernel is launched.
struct Launch {
  Kernel kernel;  // without a function: no such launch
  Schedule schedule{};
  int stages = 0;
  std::int64_t blocks = 0;  // of the grid
};

/// Offsets into the scratch memory.
struct WorkspaceLayout {
  std::int64_t scaled = 0;  // one word
  std::int64_t words_out = 0, words_lhs = 0, words_rhs = 0;
  std::int64_t scales_out = 0, scales_lhs = 0, scales_rhs = 0;
  std::int64_t partial = 0;
  std::int64_t counters = 0, gathered = 0;  // of Hopper's kernels
  int gathered_capacity = 0;
  std::int64_t plan = 0;  // PlanHeader, then for each launch the weights of its tiles and their order
  std::int64_t weights[kCandidates] = {}, tiles[kCandidates] = {};
  std::int64_t bytes = 0;
};

/// What the plan's blocks share; zeros before.
struct PlanHeader {
  std::uint64_t cost[kCandidates];
  unsigned counts[kCandidates][2];
  unsigned finished;
};

struct Choice {
  Dtype element = Dtype::float32;  // of the kernel; operands of other types are converted as they are loaded
  bool tf32 = false;               // float32 on tensor cores
  Source a{}, b{};
  Result out{};
  DotX x{};
  Launch choosing;
  Launch small;    // where there is a plan: its tiles are small, for masks that leave large ones mostly dead
  Launch scaling;  // where mask_lhs or mask_rhs may scale: all are launched, and all but one leave at once
  bool plans = false;
  sm80::FewRowsKernel few_rows{};  // where there is one, it is the only kernel, and the masks are read as they are
  bool direct = false;             // `choosing` is a kernel for small problems: the same
  bool reads_masks() const { return direct || few_rows.function != nullptr; }
  WorkspaceLayout workspace;
  std::string reason;
};

/// The call as kernels prefer it: roles swapped, blocks of k joined that no mask tells apart.
core::Canonical orient(const core::Canonical& given, const DeviceLimits& limits);

/// Scratch memory. Kernels that read masks as they are need no bits of them.
WorkspaceLayout make_workspace(const core::Canonical& canonical, const Choice& choice, bool packs_masks);

/// Throws unsupported_error for devices below compute capability 8.0 and for more than 2^31 - 1 blocks along an axis.
Choice choose(const core::Canonical& canonical, const DeviceLimits& limits);

}  // namespace maskmm::cuda
