#include "cuda/launch.hpp"

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "cuda/check.hpp"
#include "maskmm/error.hpp"

namespace maskmm::cuda {
namespace {

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
  return value;
}

Family family() {
  const char* name = std::getenv("MASKMM_CUDA_KERNELS");
  if (name == nullptr || *name == '\0') return Family::best;
  if (std::strcmp(name, "sm80") == 0) return Family::sm80;
  if (std::strcmp(name, "sm90") == 0) return Family::sm90;
  throw unsupported_error(std::string("MASKMM_CUDA_KERNELS: expected sm80 or sm90, got ") + name);
}

DeviceLimits ask_limits(int device) {
  DeviceLimits limits;
  limits.capability =
      10 * attribute(cudaDevAttrComputeCapabilityMajor, device) + attribute(cudaDevAttrComputeCapabilityMinor, device);
  limits.sms = attribute(cudaDevAttrMultiProcessorCount, device);
  limits.shared_bytes_per_block = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  limits.shared_bytes_per_sm = attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor, device);
  if (limits.capability == 90) {
    cudaFuncAttributes attributes{};
    check(cudaFuncGetAttributes(&attributes, float16_kernel(TileKind::wide, Masks::choosing).function),
          "cudaFuncGetAttributes");
    limits.hopper_code = attributes.ptxVersion >= 90;
  }
  return limits;
}

}  // namespace

DeviceLimits limits_of(int device) {
  static std::mutex mutex;
  static std::map<int, DeviceLimits> known;
  const std::lock_guard lock(mutex);
  const auto found = known.find(device);
  DeviceLimits limits = found != known.end() ? found->second : known.emplace(device, ask_limits(device)).first->second;
  limits.family = family();
  return limits;
}

void allow_shared_bytes(const void* function, int shared_bytes, int device) {
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, int> allowed;
  const std::lock_guard lock(mutex);
  int& bytes = allowed[{function, device}];
  if (bytes >= shared_bytes) return;
  check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes),
        "cudaFuncSetAttribute");
  bytes = shared_bytes;
}

void launch_kernel(const void* function, std::int64_t blocks, int threads, int shared_bytes, void* params, int device,
                   cudaStream_t stream, const char* name, Start how) {
  // With what kernels declare themselves: less than 48 KB, which all may use unasked.
  if (shared_bytes > 32 << 10) allow_shared_bytes(function, shared_bytes, device);
  void* arguments[] = {params};
  check(start(function, static_cast<unsigned>(blocks), threads, static_cast<std::size_t>(shared_bytes), arguments,
              stream, how),
        name);
}

}  // namespace maskmm::cuda
