// block_masked_dot with Hopper's kernels against that of the CPU, on numbers whose sums are exact.
#include <cstdlib>

#include "cuda_case.hpp"

namespace maskmm::cuda_test {
namespace {

class CudaDot : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_gpu()) GTEST_SKIP() << "no GPU";
    ASSERT_EQ(setenv("MASKMM_CUDA_KERNELS", "sm90", 1), 0);
  }
  void TearDown() override { ASSERT_EQ(unsetenv("MASKMM_CUDA_KERNELS"), 0); }
};

struct Shape {
  std::int64_t m, n, k, batch = 1;
};

/// Which operands lie by columns: bits for a, b, x.
struct DotCase {
  Shape shape;
  Dtype dtype = Dtype::bfloat16;
  int by_columns = 0;
  int masks = 0;  // bits for out, lhs, rhs
  double density = 0.5;
  double infinite = 0;
};

class Dot {
 public:
  explicit Dot(const DotCase& c) : case_(c), random_(static_cast<std::uint64_t>(c.by_columns * 8 + c.masks + 1)) {
    const auto [m, n, k, batch] = c.shape;
    a_ = matrices(m, k, c.by_columns & 1, batch), b_ = matrices(k, n, c.by_columns & 2, 1);
    x_ = matrices(m, n, c.by_columns & 4, batch);
    const std::int64_t rows = (m + 63) / 64, columns = (n + 63) / 64, inner = (k + 63) / 64;
    out_ = mask(rows, columns), lhs_ = mask(rows, inner), rhs_ = mask(inner, columns);
    if (!(c.masks & 1)) return;
    for (std::int64_t i = 0; i < m; ++i) {  // what mask_out drops is not looked at
      for (std::int64_t j = 0; j < n; ++j) {
        if (!static_cast<const std::uint8_t*>(out_.view().data)[i / 64 * columns + j / 64]) put_x(i, j, std::nan(""));
      }
    }
  }

  void check() {
    const array expected = run(Device::cpu), got(run(Device::gpu).view(), Device::cpu);
    const auto *want = expected.data<float>(), *have = got.data<float>();
    for (std::int64_t i = 0; i < expected.size(); ++i) {
      if (std::isnan(want[i]) && std::isnan(have[i])) continue;
      ASSERT_EQ(have[i], want[i]) << i << " of " << expected.size() << ", by columns " << case_.by_columns << ", masks "
                                  << case_.masks;
    }
  }

  array run(Device device) const {
    const auto there = [&](const array& host) { return array(host.view(), device); };
    const array a = there(a_), b = there(b_), x = there(x_), out = there(out_), lhs = there(lhs_), rhs = there(rhs_);
    const auto as = [&](const array& given, int bit) {
      return case_.by_columns & bit ? given.transposed() : given.view();
    };
    const auto given = [&](const array& mask, int bit) {
      return case_.masks & bit ? std::optional<View>(mask.view()) : std::nullopt;
    };
    const array result =
        block_masked_dot(as(x, 4), as(a, 1), as(b, 2), 64, given(out, 1), given(lhs, 2), given(rhs, 4));
    if (device.type == DeviceType::gpu) synchronize(default_stream(device));
    return result;
  }

 private:
  array matrices(std::int64_t rows, std::int64_t columns, bool by_columns, std::int64_t batch) {
    if (by_columns) std::swap(rows, columns);
    array made(batch == 1 ? Dims{rows, columns} : Dims{batch, rows, columns}, case_.dtype);
    for (std::int64_t i = 0; i < made.size(); ++i) {
      double value = static_cast<double>(random_() % 9) - 4;
      if (static_cast<double>(random_() % 1000000) < case_.infinite * 1e6) value = HUGE_VAL;
      put(static_cast<std::byte*>(const_cast<void*>(made.view().data)) + i * 2, case_.dtype, value);
    }
    return made;
  }

  array mask(std::int64_t rows, std::int64_t columns) {
    array made({rows, columns}, Dtype::bool_);
    for (std::int64_t i = 0; i < made.size(); ++i) {
      static_cast<std::uint8_t*>(const_cast<void*>(made.view().data))[i] =
          static_cast<double>(random_() % 1000) < case_.density * 1000;
    }
    return made;
  }

  void put_x(std::int64_t i, std::int64_t j, double value) {
    const auto [m, n, k, batch] = case_.shape;
    auto* data = static_cast<std::byte*>(const_cast<void*>(x_.view().data));
    for (std::int64_t matrix = 0; matrix < batch; ++matrix) {
      put(data + 2 * (matrix * m * n + (case_.by_columns & 4 ? j * m + i : i * n + j)), case_.dtype, value);
    }
  }

  DotCase case_;
  Random random_;
  array a_, b_, x_, out_, lhs_, rhs_;
};

TEST_F(CudaDot, LayoutsAndMasks) {
  for (const Dtype dtype : {Dtype::bfloat16, Dtype::float16}) {
    for (int by_columns = 0; by_columns < 8; ++by_columns) {
      for (int masks = 0; masks < 8; ++masks) {
        Dot({.shape = {456, 584, 392}, .dtype = dtype, .by_columns = by_columns, .masks = masks, .infinite = 1e-5})
            .check();
        if (HasFailure()) return;
      }
    }
  }
}

TEST_F(CudaDot, Sizes) {
  for (const Shape& shape : {Shape{8, 8, 8}, Shape{64, 264, 72}, Shape{200, 256, 8000}, Shape{136, 520, 72, 3},
                             Shape{3000, 4712, 136}, Shape{2048, 4096, 192}}) {
    for (const int by_columns : {0, 4}) {
      for (const int masks : {0, 1, 2, 4, 6}) {
        Dot({.shape = shape, .by_columns = by_columns, .masks = masks, .density = 0.4, .infinite = 1e-7}).check();
        if (HasFailure()) return;
      }
    }
  }
}

TEST_F(CudaDot, TheSameBitsOverAndOver) {
  const Dot dot({.shape = {1600, 1600, 1600}, .masks = 2});
  const array first(dot.run(Device::gpu).view(), Device::cpu);
  for (int repeat = 0; repeat < 20; ++repeat) {
    const array again(dot.run(Device::gpu).view(), Device::cpu);
    ASSERT_EQ(std::memcmp(first.view().data, again.view().data, static_cast<std::size_t>(first.size()) * 4), 0);
  }
}

}  // namespace
}  // namespace maskmm::cuda_test
