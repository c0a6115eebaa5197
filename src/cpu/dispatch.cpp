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

bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c(); }
#endif

bool always() { return true; }

// Best first.
constexpr Row kRows[] = {
#if defined(__x86_64__)
    {&kAvx512Kernels, has_avx512},
    {&kAvx2Kernels, has_avx2},
#elif defined(__aarch64__)
    {&kNeonKernels, always},
#endif
    {&kPortableKernels, always},
};

const KernelSet& decide() {
  const char* variable = std::getenv("MASKMM_ISA");
  const std::string_view wanted = variable != nullptr ? variable : "";
  if (wanted.empty()) {
    for (const Row& row : kRows) {
      if (row.runs_here()) return *row.set;
    }
  }
  std::string known;
  for (const Row& row : kRows) {
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
  for (const Row& row : kRows) {
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
