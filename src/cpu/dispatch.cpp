#include "cpu/dispatch.hpp"

#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "maskmm/error.hpp"
#include "maskmm/version.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace maskmm::cpu {
namespace {

struct Row {
  const KernelSet* set;
  bool (*runs_here)();
};

#if defined(__x86_64__)
bool has_f16c() {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}

// __builtin_cpu_supports asks the operating system too whether it saves the registers.
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

bool has_avx512_bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }

/// Linux saves the tile registers of processes that have asked for them, once and for all of their threads.
bool may_use_tiles() {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM
  static const bool granted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return granted;
#else
  return false;
#endif
}

bool has_amx_bf16() {
  constexpr unsigned kBfloat16 = 1u << 22, kTile = 1u << 24;
  unsigned eax, ebx, ecx, edx;
  return has_avx512_bf16() && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (edx & kBfloat16) && (edx & kTile) &&
         may_use_tiles();
}

bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c(); }
#endif

bool always() { return true; }

KernelSet with_pairs(KernelSet set, const char* name, const char* needs, const Kernels<float>& pairs) {
  set.name = name;
  set.needs = needs;
  set.bfloat16_pairs = &pairs;
  set.few_bfloat16_pairs = &kAvx512Bfloat16Kernels;
  set.narrow_bfloat16 = narrow_bfloat16_avx512_bf16;
  return set;
}

/// Best first.
const std::vector<Row>& rows() {
#if defined(__x86_64__)
  static const KernelSet avx512_bf16 =
      with_pairs(kAvx512Kernels, "avx512_bf16", "AVX-512 F, BW, DQ, VL and BF16", kAvx512Bfloat16Kernels);
  static const KernelSet amx_bf16 =
      with_pairs(kAvx512Kernels, "amx_bf16", "AMX with BF16, AVX-512 BF16 and Linux's leave", kAmxBfloat16Kernels);
#endif
  static const std::vector<Row> rows = {
#if defined(__x86_64__)
      {&amx_bf16, has_amx_bf16},     {&avx512_bf16, has_avx512_bf16},
      {&kAvx512Kernels, has_avx512}, {&kAvx2Kernels, has_avx2},
#elif defined(__aarch64__)
      {&kNeonKernels, always},
#endif
      {&kPortableKernels, always},
  };
  return rows;
}

const KernelSet& decide() {
  const char* variable = std::getenv("MASKMM_ISA");
  const std::string_view wanted = variable != nullptr ? variable : "";
  if (wanted.empty()) {
    for (const Row& row : rows()) {
      if (row.runs_here()) return *row.set;
    }
  }
  std::string known;
  for (const Row& row : rows()) {
    if (wanted == row.set->name) {
      if (row.runs_here()) return *row.set;
      throw unsupported_error("MASKMM_ISA: this processor cannot run " + std::string(wanted) + ", which needs " +
                              row.set->needs);
    }
    if (!known.empty()) known += ", ";
    known += row.set->name;
  }
  throw unsupported_error("MASKMM_ISA: expected one of " + known + ", got " + std::string(wanted));
}

}  // namespace

std::vector<const KernelSet*> runnable_kernel_sets() {
  std::vector<const KernelSet*> sets;
  for (const Row& row : rows()) {
    if (row.runs_here()) sets.push_back(row.set);
  }
  return sets;
}

const KernelSet& kernel_set() {
  static const KernelSet& set = decide();
  return set;
}

}  // namespace maskmm::cpu

namespace maskmm {

std::string cpu_isa() { return cpu::kernel_set().name; }

}  // namespace maskmm
