// Devices, streams and threads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace maskmm {

enum class DeviceType : std::uint8_t { cpu, gpu };

/// A place where arrays live and work runs. There is one CPU device, index 0; GPUs are numbered as CUDA numbers them.
struct Device {
  static constexpr DeviceType cpu = DeviceType::cpu;
  static constexpr DeviceType gpu = DeviceType::gpu;

  DeviceType type = DeviceType::cpu;
  int index = 0;
  constexpr Device() = default;
  constexpr Device(DeviceType type_, int index_ = 0) : type(type_), index(index_) {}
  bool operator==(const Device&) const = default;
};

/// "cpu:0", "gpu:1".
std::string to_string(Device device);
/// The devices that are there; the CPU is first.
std::vector<Device> devices();
/// Where results go that no input places: the CPU, unless set_default_device said otherwise. Process-wide.
Device default_device();
/// Throws device_error where the device is not there.
void set_default_device(Device device);

/// An order of work on one device. Calls on the CPU are finished when they return, whatever the stream. On a GPU the
/// work is enqueued on `handle`, a cudaStream_t (nullptr is the legacy default stream). The caller owns a handle that
/// it passes in; those of new_stream live until the process ends.
struct Stream {
  Device device;
  std::int64_t index = 0;  // 0 is the default stream of its device
  void* handle = nullptr;
  bool operator==(const Stream&) const = default;
};

/// A stream of its own on the device. Throws device_error where the device is not there.
Stream new_stream(Device device);
/// The default stream of the device. Throws device_error where the device is not there.
Stream default_stream(Device device);
/// Returns when all work enqueued on the stream so far is finished.
void synchronize(const Stream& stream);
/// Returns when all work on the default stream of the default device is finished.
void synchronize();

/// The `stream` argument: a Stream, a Device (its default stream), or nothing (the default stream of the inputs'
/// device).
struct StreamOrDevice {
  Stream stream;
  bool given = false;
  bool device_only = false;  // true: any stream of that device will do
  StreamOrDevice() = default;
  StreamOrDevice(const Stream& stream_) : stream(stream_), given(true) {}
  StreamOrDevice(Device device) : stream{device}, given(true), device_only(true) {}
  StreamOrDevice(DeviceType type) : StreamOrDevice(Device(type)) {}
};

/// Threads that one call on the CPU may use: at first MASKMM_NUM_THREADS, or else the processors that the process may
/// run on. Results do not depend on it.
int num_threads();
/// Throws shape_error where count < 1. Process-wide.
void set_num_threads(int count);

}  // namespace maskmm
