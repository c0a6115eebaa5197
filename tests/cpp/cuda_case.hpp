// A product on the GPU beside a float64 oracle that loops over live triples.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "core/mask_value.hpp"
#include "cuda/check.hpp"
#include "maskmm/maskmm.hpp"

namespace maskmm::cuda_test {

using Random = std::mt19937_64;

/// Memory on the device with the same bytes on the host, and a strided view into both.
struct Buffer {
  std::vector<std::byte> host;
  array device;
  Dims shape, strides_bytes;
  Dtype dtype = Dtype::float32;
  std::int64_t offset_bytes = 0;

  View host_view() const { return View(host.data() + offset_bytes, dtype, shape, strides_bytes, Device::cpu); }
  MutableView device_view() {
    return MutableView(device.data<std::uint8_t>() + offset_bytes, dtype, shape, strides_bytes, Device::gpu);
  }
  void upload() {
    ASSERT_EQ(cudaMemcpy(device.data<std::uint8_t>(), host.data(), host.size(), cudaMemcpyHostToDevice), cudaSuccess);
  }
  std::vector<std::byte> download() const {
    std::vector<std::byte> bytes(host.size());
    EXPECT_EQ(cudaMemcpy(bytes.data(), device.data<std::uint8_t>(), bytes.size(), cudaMemcpyDeviceToHost), cudaSuccess);
    return bytes;
  }
};

/// How an array lies in memory.
enum class Lay { rows, columns, padded, sliced, reversed, misaligned, shifted, broadcast_rows, broadcast_columns };
inline constexpr int kLays = 9;

inline Buffer make_buffer(const Dims& shape, Dtype dtype, Lay lay) {
  const auto size = static_cast<std::int64_t>(size_of(dtype));
  Buffer buffer;
  buffer.shape = shape;
  buffer.dtype = dtype;
  const int n = shape.size();
  const std::int64_t rows = shape[n - 2], columns = shape[n - 1];
  std::int64_t row = columns, column = 1, matrix = rows * columns, first = 0, extra = 0;
  switch (lay) {
    case Lay::rows:
      break;
    case Lay::columns:
      row = 1, column = rows;
      break;
    case Lay::padded:  // rows start at multiples of 16 bytes
      row = (columns + 15) / 16 * 16, matrix = rows * row;
      break;
    case Lay::sliced:
      row = 2 * columns, column = 2, matrix = rows * row;
      break;
    case Lay::reversed:
      row = -columns, column = -1, first = rows * columns - 1;
      break;
    case Lay::misaligned:
      extra = 1;
      break;
    case Lay::shifted:  // aligned as an element, not as a vector
      row = columns + 3, matrix = rows * row, first = 1;
      break;
    case Lay::broadcast_rows:
      row = 0, matrix = columns;
      break;
    case Lay::broadcast_columns:
      row = 1, column = 0, matrix = rows;
      break;
  }
  std::int64_t batch = 1;
  buffer.strides_bytes.resize(n);
  buffer.strides_bytes[n - 1] = column * size, buffer.strides_bytes[n - 2] = row * size;
  for (int axis = n - 3; axis >= 0; --axis) {
    buffer.strides_bytes[axis] = shape[axis] == 1 ? 0 : batch * matrix * size;
    batch *= shape[axis];
  }
  buffer.offset_bytes = first * size + extra;
  buffer.host.resize(static_cast<std::size_t>((batch * matrix + 1) * size + extra));
  buffer.device = array({static_cast<std::int64_t>(buffer.host.size())}, Dtype::uint8, Device::gpu);
  return buffer;
}

inline double get(const View& view, std::int64_t offset) {
  return core::element_as<double>(static_cast<const std::byte*>(view.data) + offset, view.dtype);
}

/// The value as an element of the type holds it.
inline double put(void* to, Dtype dtype, double value) {
  const auto store = [&](auto element) {
    std::memcpy(to, &element, sizeof element);
    return core::element_as<double>(to, dtype);
  };
  switch (dtype) {
    case Dtype::float16:
      return store(float16_t(static_cast<float>(value)));
    case Dtype::bfloat16:
      return store(bfloat16_t(static_cast<float>(value)));
    case Dtype::float32:
      return store(static_cast<float>(value));
    case Dtype::float64:
      return store(value);
    case Dtype::bool_:
      return store(static_cast<std::uint8_t>(value != 0 ? 3 : 0));
    case Dtype::int8:
      return store(static_cast<std::int8_t>(value));
    case Dtype::int32:
      return store(static_cast<std::int32_t>(value));
    default:
      return store(static_cast<std::int64_t>(value));
  }
}

/// Offset of element (row, column) in batch element `index` of `batch`, the array's batch axes being broadcast.
inline std::int64_t offset_of(const View& view, const Dims& batch, std::int64_t index, std::int64_t row,
                              std::int64_t column) {
  const int n = view.ndim(), own = n - 2;
  std::int64_t offset = row * view.strides_bytes[n - 2] + column * view.strides_bytes[n - 1];
  for (int axis = batch.size() - 1; axis >= 0; --axis) {
    const std::int64_t at = index % batch[axis];
    index /= batch[axis];
    const int mine = axis - (batch.size() - own);
    if (mine >= 0 && view.shape[mine] != 1) offset += at * view.strides_bytes[mine];
  }
  return offset;
}

struct MaskSpec {
  std::optional<Dtype> dtype;  // none: absent
  double density = 0.5;
  bool zero_one = false;  // a float mask of zeros and ones
  double size = 1;        // of a float mask's values
  bool on_host = false;
  Lay lay = Lay::rows;
  Dims batch;
};

struct Case {
  std::int64_t m = 64, n = 64, k = 64;
  BlockSize block = 64;
  Dtype a_dtype = Dtype::float32, b_dtype = Dtype::float32;
  Dims a_batch, b_batch;
  Lay a_lay = Lay::rows, b_lay = Lay::rows, out_lay = Lay::rows;
  MaskSpec out, lhs, rhs;
  double infinite = 0;  // share of Inf among the elements
  double a_size = 1;    // of a's values
  Precision precision = Precision::ieee;
  std::uint64_t seed = 1;
};

std::string describe(const Case& c);

/// Everything of one case, filled with random numbers: NaN wherever no live triple looks.
class Problem {
 public:
  explicit Problem(const Case& c);
  void randomize(std::uint64_t seed);
  void run(const Stream& stream);
  Explanation explain();
  /// Fails the test where an element leaves SPEC's bound, or where a byte outside the result has changed.
  void check();
  std::vector<std::byte> result() const { return out_.download(); }
  Dtype result_dtype() const { return out_.dtype; }
  void upload();

 private:
  std::optional<View> view(Buffer& mask, const MaskSpec& spec);
  double mask_value(const Buffer& mask, const MaskSpec& spec, std::int64_t index, std::int64_t row,
                    std::int64_t column) const;
  void fill_mask(Buffer& mask, const MaskSpec& spec, Random& random);
  void fill(Buffer& operand, Random& random, double size_of_values);
  void poison_dead();

  Case case_;
  Dims batch_;
  std::int64_t batch_size_ = 1;
  Buffer a_, b_, out_, mask_out_, mask_lhs_, mask_rhs_;
};

inline bool has_gpu() { return devices().size() > 1; }

/// A test that is skipped where there is no Hopper GPU.
class HopperTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_gpu()) GTEST_SKIP() << "no GPU";
    int major = 0;
    ASSERT_EQ(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), cudaSuccess);
    if (major != 9) GTEST_SKIP() << "not a Hopper GPU";
  }
};

/// A bool mask.
inline MaskSpec mask(double density = 0.5) {
  MaskSpec spec;
  spec.dtype = Dtype::bool_;
  spec.density = density;
  return spec;
}

/// A k- or line-major operand whose lines start at multiples of 16 bytes.
inline constexpr Lay kOperandLays[] = {Lay::padded, Lay::columns};

}  // namespace maskmm::cuda_test
