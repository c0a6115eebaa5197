// Devices, streams, memory and copies.
#include "core/backend.hpp"
#include "cuda/check.hpp"
#include "maskmm/error.hpp"

namespace maskmm::cuda {

int device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  (void)cudaGetLastError();
  return 0;
}

/// A blocking stream: what the default stream does (array's memory comes and goes there) is ordered with it.
Stream new_stream(Device device) {
  const DeviceScope scope(device.index);
  cudaStream_t handle = nullptr;
  check(cudaStreamCreate(&handle), "cudaStreamCreate");
  return Stream{device, 0, handle};
}

void synchronize(const Stream& stream) {
  const DeviceScope scope(stream.device.index);
  check(cudaStreamSynchronize(static_cast<cudaStream_t>(stream.handle)), "cudaStreamSynchronize");
}

std::shared_ptr<void> allocate(std::size_t bytes, const Stream& stream) {
  const Device device = stream.device;
  const auto handle = static_cast<cudaStream_t>(stream.handle);
  const DeviceScope scope(device.index);
  void* memory = nullptr;
  check(cudaMallocFromPoolAsync(&memory, bytes, memory_pool(device.index), handle), "cudaMallocFromPoolAsync");
  return {memory, [device, handle](void* freed) {
            try {
              const DeviceScope scope(device.index);
              check(cudaFreeAsync(freed, handle), "cudaFreeAsync");
            } catch (const cuda_error&) {  // at exit the driver may be gone, and the memory with it
            }
          }};
}

void copy(void* to, Device to_device, const void* from, Device from_device, std::size_t bytes) {
  const Device gpu = to_device.type == DeviceType::gpu ? to_device : from_device;
  const DeviceScope scope(gpu.index);
  check(cudaMemcpy(to, from, bytes, cudaMemcpyDefault), "cudaMemcpy");
  check(cudaStreamSynchronize(nullptr), "cudaStreamSynchronize");
}

}  // namespace maskmm::cuda
