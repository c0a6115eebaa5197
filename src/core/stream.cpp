#include "maskmm/stream.hpp"

#include <atomic>

#include "core/backend.hpp"
#include "maskmm/error.hpp"
#include "maskmm/version.hpp"

namespace maskmm {
namespace {

std::atomic<int> default_gpu{-1};  // -1: the CPU
std::atomic<std::int64_t> next_stream_index{1};

void check_device(Device device) {
  const int count = device.type == DeviceType::cpu ? 1 : cuda::device_count();
  if (device.index >= 0 && device.index < count) return;
  throw device_error("device: no " + to_string(device) + " here, there " + (count == 1 ? "is " : "are ") +
                     std::to_string(count) + (device.type == DeviceType::cpu ? " CPU" : " GPU") +
                     (count == 1 ? " device" : " devices"));
}

}  // namespace

std::string to_string(Device device) {
  return (device.type == DeviceType::cpu ? "cpu:" : "gpu:") + std::to_string(device.index);
}

std::vector<Device> devices() {
  std::vector<Device> all{Device::cpu};
  for (int index = 0; index < cuda::device_count(); ++index) all.emplace_back(DeviceType::gpu, index);
  return all;
}

Device default_device() {
  const int index = default_gpu.load(std::memory_order_relaxed);
  return index < 0 ? Device() : Device(DeviceType::gpu, index);
}

void set_default_device(Device device) {
  check_device(device);
  default_gpu.store(device.type == DeviceType::cpu ? -1 : device.index, std::memory_order_relaxed);
}

Stream new_stream(Device device) {
  check_device(device);
  Stream stream = device.type == DeviceType::cpu ? Stream{device} : cuda::new_stream(device);
  stream.index = next_stream_index.fetch_add(1, std::memory_order_relaxed);
  return stream;
}

Stream default_stream(Device device) {
  check_device(device);
  return Stream{device};
}

void synchronize(const Stream& stream) {
  check_device(stream.device);
  if (stream.device.type == DeviceType::gpu) cuda::synchronize(stream);
}

void synchronize() { synchronize(default_stream(default_device())); }

std::string version() { return MASKMM_VERSION; }

}  // namespace maskmm
