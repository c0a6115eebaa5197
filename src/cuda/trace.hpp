// Named ranges for profilers, where the toolkit brings NVTX. They cost next to nothing while no profiler listens.
#pragma once

#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#define MASKMM_HAS_NVTX 1
#else
#define MASKMM_HAS_NVTX 0
#endif

namespace maskmm::cuda {

class TraceRange {
 public:
#if MASKMM_HAS_NVTX
  explicit TraceRange(const char* name) { nvtxRangePushA(name); }
  ~TraceRange() { nvtxRangePop(); }
#else
  explicit TraceRange(const char*) {}
#endif
  TraceRange(const TraceRange&) = delete;
  TraceRange& operator=(const TraceRange&) = delete;
};

}  // namespace maskmm::cuda
