// block_masked_dot and the derivatives on the GPU against those of the CPU in float64, which have tests of their own.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "core/mask_value.hpp"
#include "maskmm/maskmm.hpp"

namespace maskmm {
namespace {

class CudaDerivatives : public ::testing::Test {
 protected:
  void SetUp() override {
    if (devices().size() < 2) GTEST_SKIP() << "no GPU";
  }
};

/// The same numbers in a type, on the GPU, and as that type holds them in float64.
struct Pair {
  array gpu, host;
};

template <class T>
Pair make_pair_of(const std::vector<double>& values, const Dims& shape) {
  array typed(shape, dtype_of<T>), host(shape, Dtype::float64);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if constexpr (std::is_same_v<T, float16_t> || std::is_same_v<T, bfloat16_t>) {
      typed.data<T>()[i] = T(static_cast<float>(values[i]));
    } else {
      typed.data<T>()[i] = static_cast<T>(values[i]);
    }
    host.data<double>()[i] = core::element_as<double>(&typed.data<T>()[i], dtype_of<T>);
  }
  return {array(typed, Device::gpu), host};
}

Pair numbers(const Dims& shape, Dtype dtype, std::uint64_t seed, double zeros = 0) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  std::vector<double> values(static_cast<std::size_t>(count));
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  for (double& value : values) value = normal(random) * (uniform(random) < zeros ? 0 : 1);
  switch (dtype) {
    case Dtype::float16:
      return make_pair_of<float16_t>(values, shape);
    case Dtype::bfloat16:
      return make_pair_of<bfloat16_t>(values, shape);
    case Dtype::float32:
      return make_pair_of<float>(values, shape);
    default:
      return make_pair_of<double>(values, shape);
  }
}

void expect_close(const array& gpu, const array& expected, double relative) {
  ASSERT_EQ(gpu.shape(), expected.shape());
  const array host(gpu, Device::cpu);
  double largest = 1e-30;
  for (std::int64_t i = 0; i < expected.size(); ++i) largest = std::max(largest, std::fabs(expected.data<double>()[i]));
  const auto item = static_cast<std::int64_t>(size_of(host.dtype()));
  const auto* bytes = static_cast<const std::byte*>(host.view().data);
  for (std::int64_t i = 0; i < expected.size(); ++i) {
    const double got = core::element_as<double>(bytes + i * item, host.dtype());
    const double value = expected.data<double>()[i];
    if (!(std::fabs(got - value) <= relative * largest)) FAIL() << "element " << i << ": " << got << ", not " << value;
  }
}

double precision_of(Dtype dtype) {
  return dtype == Dtype::float64 ? 1e-12 : dtype == Dtype::float32 ? 1e-5 : dtype == Dtype::float16 ? 2e-3 : 1e-2;
}

constexpr Dtype kFloats[] = {Dtype::float16, Dtype::bfloat16, Dtype::float32, Dtype::float64};

TEST_F(CudaDerivatives, DotOfEachTypeAndBlock) {
  for (const Dtype dtype : kFloats) {
    for (const Dtype x_dtype : {dtype, Dtype::float32, Dtype::float64}) {
      for (const BlockSize block : {BlockSize(16), BlockSize(64), BlockSize(32, 256, 128)}) {
        const std::int64_t M = 301, N = 275, K = 190;
        const auto blocks = [](std::int64_t extent, std::int64_t size) { return (extent + size - 1) / size; };
        const Pair x = numbers({2, M, N}, x_dtype, 1), a = numbers({M, K}, dtype, 2), b = numbers({2, K, N}, dtype, 3);
        const Pair out = numbers({blocks(M, block.m), blocks(N, block.n)}, Dtype::float32, 4, 0.4);
        const Pair lhs = numbers({blocks(M, block.m), blocks(K, block.k)}, Dtype::float32, 5, 0.4);
        const array gpu = block_masked_dot(x.gpu, a.gpu, b.gpu, block, out.gpu.view(), lhs.gpu.view());
        const array again = block_masked_dot(x.gpu, a.gpu, b.gpu, block, out.gpu.view(), lhs.gpu.view());
        SCOPED_TRACE(std::string(name_of(dtype)) + " x " + name_of(x_dtype) + " block " + to_string(block));
        expect_close(gpu, block_masked_dot(x.host, a.host, b.host, block, out.host.view(), lhs.host.view()),
                     dtype == Dtype::float64 ? 1e-12 : 1e-5);
        const array first(gpu, Device::cpu), second(again, Device::cpu);
        EXPECT_EQ(std::memcmp(first.view().data, second.view().data,
                              static_cast<std::size_t>(first.size()) * size_of(first.dtype())),
                  0);
      }
    }
  }
}

TEST_F(CudaDerivatives, DotOfASplitK) {
  const Pair x = numbers({40, 50}, Dtype::float32, 1), a = numbers({40, 9000}, Dtype::float32, 2),
             b = numbers({9000, 50}, Dtype::float32, 3), rhs = numbers({141, 1}, Dtype::float32, 4, 0.5);
  expect_close(block_masked_dot(x.gpu, a.gpu, b.gpu, 64, {}, {}, rhs.gpu.view()),
               block_masked_dot(x.host, a.host, b.host, 64, {}, {}, rhs.host.view()), 1e-5);
}

TEST_F(CudaDerivatives, AllGradientsAndTangents) {
  for (const Dtype dtype : kFloats) {
    const Pair a = numbers({3, 140, 170}, dtype, 1), b = numbers({170, 90}, dtype, 2);
    const Pair out = numbers({3, 5, 3}, Dtype::float32, 3, 0.4), lhs = numbers({1, 6}, dtype, 4, 0.4),
               rhs = numbers({6, 3}, Dtype::float64, 5, 0.4), g = numbers({3, 140, 90}, dtype, 6);
    const Wanted wanted{.a = true, .b = true, .mask_out = true, .mask_lhs = true, .mask_rhs = true};
    const auto vjp = [&](auto which) {
      return block_masked_mm_vjp((g.*which).view(), wanted, (a.*which).view(), (b.*which).view(), 32,
                                 (out.*which).view(), (lhs.*which).view(), (rhs.*which).view());
    };
    const Gradients gpu = vjp(&Pair::gpu), host = vjp(&Pair::host);
    SCOPED_TRACE(name_of(dtype));
    const double relative = precision_of(dtype);
    expect_close(*gpu.a, *host.a, relative);
    expect_close(*gpu.b, *host.b, relative);
    expect_close(*gpu.mask_out, *host.mask_out, std::max(relative, 1e-5));
    expect_close(*gpu.mask_lhs, *host.mask_lhs, relative);
    expect_close(*gpu.mask_rhs, *host.mask_rhs, relative);
    EXPECT_EQ(gpu.a->dtype(), dtype);
    EXPECT_EQ(gpu.mask_rhs->dtype(), Dtype::float64);
    EXPECT_EQ(gpu.b->device(), Device(Device::gpu));

    const auto jvp = [&](auto which) {
      Tangents tangents;
      tangents.a = (a.*which).view(), tangents.mask_lhs = (lhs.*which).view(), tangents.b = (b.*which).view();
      return block_masked_mm_jvp(tangents, (a.*which).view(), (b.*which).view(), 32, (out.*which).view(),
                                 (lhs.*which).view(), (rhs.*which).view());
    };
    expect_close(jvp(&Pair::gpu), jvp(&Pair::host), 2 * relative);
  }
}

}  // namespace
}  // namespace maskmm
