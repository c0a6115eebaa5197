// CUDA's error codes become exceptions; the current device and the capture mode become scopes.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <utility>

#include "core/scratch_source.hpp"
#include "maskmm/stream.hpp"

namespace maskmm::cuda {

/// Throws std::bad_alloc where memory ended and cuda_error for everything else. Leaves no error behind in the runtime.
void check(cudaError_t status, const char* what);

/// Makes a device current and restores the one before. What a call sets up on first use (modules, a pool) is allowed
/// while a stream is being captured.
class DeviceScope {
 public:
  explicit DeviceScope(int device);
  ~DeviceScope();
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  int before_ = 0;
  bool changed_ = false;
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

/// Scratch memory in the order of a stream, from `source` or else from our own pool.
class Workspace {
 public:
  Workspace(std::size_t bytes, int device, cudaStream_t stream, core::ScratchSource* source = nullptr);
  ~Workspace();
  Workspace(Workspace&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        bytes_(other.bytes_),
        stream_(other.stream_),
        source_(other.source_) {}
  Workspace& operator=(Workspace&&) = delete;
  std::byte* data() const { return data_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_;
  cudaStream_t stream_;
  core::ScratchSource* source_;
};

/// Our own pool on the device: it keeps freed memory for the next call, and leaves the settings of others alone.
cudaMemPool_t memory_pool(int device);

}  // namespace maskmm::cuda
