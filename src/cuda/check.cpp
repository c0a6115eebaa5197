#include "cuda/check.hpp"

#include <cstddef>
#include <map>
#include <mutex>
#include <new>
#include <string>

#include "maskmm/error.hpp"

namespace maskmm::cuda {
namespace {

constexpr std::uint64_t kKeptBytes = std::uint64_t{256} << 20;

}  // namespace

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  (void)cudaGetLastError();
  if (status == cudaErrorMemoryAllocation) throw std::bad_alloc();
  throw cuda_error(std::string("CUDA: ") + what + ": " + cudaGetErrorString(status));
}

DeviceScope::DeviceScope(int device) {
  check(cudaGetDevice(&before_), "cudaGetDevice");
  if (before_ != device) {
    check(cudaSetDevice(device), "cudaSetDevice");
    changed_ = true;
  }
  (void)cudaThreadExchangeStreamCaptureMode(&mode_);
}

DeviceScope::~DeviceScope() {
  (void)cudaThreadExchangeStreamCaptureMode(&mode_);
  if (changed_ && cudaSetDevice(before_) != cudaSuccess) (void)cudaGetLastError();
}

cudaMemPool_t memory_pool(int device) {
  static std::mutex mutex;
  static std::map<int, cudaMemPool_t> pools;
  const std::lock_guard lock(mutex);
  cudaMemPool_t& pool = pools[device];
  if (pool == nullptr) {
    cudaMemPoolProps props{};
    props.allocType = cudaMemAllocationTypePinned;
    props.location.type = cudaMemLocationTypeDevice;
    props.location.id = device;
    check(cudaMemPoolCreate(&pool, &props), "cudaMemPoolCreate");
    std::uint64_t kept = kKeptBytes;
    check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &kept), "cudaMemPoolSetAttribute");
  }
  return pool;
}

Workspace::Workspace(std::size_t bytes, int device, cudaStream_t stream, core::ScratchSource* source)
    : bytes_(bytes), stream_(stream), source_(source) {
  if (bytes == 0) return;
  if (source != nullptr) {
    data_ = source->allocate(bytes);
    return;
  }
  void* data = nullptr;
  check(cudaMallocFromPoolAsync(&data, bytes, memory_pool(device), stream), "cudaMallocFromPoolAsync");
  data_ = static_cast<std::byte*>(data);
}

Workspace::~Workspace() {
  if (data_ == nullptr) return;
  if (source_ != nullptr) {
    source_->free(data_, bytes_);
  } else if (cudaFreeAsync(data_, stream_) != cudaSuccess) {
    (void)cudaGetLastError();
  }
}

}  // namespace maskmm::cuda
