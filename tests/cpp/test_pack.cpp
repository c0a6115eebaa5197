// Packing and unpacking, for every kernel set that runs here.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "core/mask_value.hpp"
#include "cpu/dispatch.hpp"
#include "cpu/pack.hpp"
#include "cpu_cases.hpp"

namespace maskmm::test {
namespace {

class Pack : public testing::TestWithParam<const cpu::KernelSet*> {};

template <class T>
void check_pack(Random& random, const cpu::KernelSet& set) {
  constexpr Dtype kDtypes[] = {Dtype::bool_,    Dtype::uint8,   Dtype::int8,   Dtype::uint16, Dtype::int16,
                               Dtype::uint32,   Dtype::int32,   Dtype::uint64, Dtype::int64,  Dtype::float16,
                               Dtype::bfloat16, Dtype::float32, Dtype::float64};
  const Dtype dtype = kDtypes[random() % 13];
  if (sizeof(T) == 4 && dtype == Dtype::float64) return;
  const Dtype rounded[] = {dtype_of<T>, Dtype::float16, Dtype::bfloat16};
  const Dtype promoted = sizeof(T) == 8 ? Dtype::float64 : rounded[random() % 3];
  const std::int64_t rows = 1 + static_cast<std::int64_t>(random() % 70),
                     columns = 1 + static_cast<std::int64_t>(random() % 70);
  const std::int64_t padded = columns + static_cast<std::int64_t>(random() % 8), ldt = padded + 3;
  const Strided from = make_strided(random, {rows, columns}, dtype, random() % 2, true);
  for_each_index(from.view.shape, [&](const auto& index) {
    store(element(from.view, index), dtype, static_cast<double>(static_cast<std::int64_t>(random() % 4001) - 2000) / 8);
  });
  std::vector<T> to(static_cast<std::size_t>(rows * ldt), T(-77));
  cpu::pack<T>(set,
               {static_cast<const std::byte*>(from.view.data), dtype, promoted, from.view.strides_bytes[0],
                from.view.strides_bytes[1]},
               rows, columns, to.data(), ldt, padded);
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < ldt; ++j) {
      T expected = j < padded ? T(0) : T(-77);
      if (j < columns) {
        expected = core::element_as<T>(element(from.view, {i, j}), dtype);
        if (!is_floating(dtype) && promoted == Dtype::float16)
          expected = static_cast<float>(float16_t(static_cast<float>(expected)));
        if (!is_floating(dtype) && promoted == Dtype::bfloat16)
          expected = static_cast<float>(bfloat16_t(static_cast<float>(expected)));
      }
      ASSERT_EQ(to[static_cast<std::size_t>(i * ldt + j)], expected) << name_of(dtype) << " " << i << " " << j;
    }
  }
}

TEST_P(Pack, AnyTypeAndStride) {
  for (std::uint64_t seed = 0; seed < 600; ++seed) {
    Random random(seed);
    check_pack<float>(random, *GetParam());
    check_pack<double>(random, *GetParam());
    if (HasFatalFailure()) FAIL() << "seed " << seed;
  }
}

/// The bits of a pair: `first` in the low half.
std::uint32_t pair_bits(const View& view, std::int64_t i0, std::int64_t j0, std::int64_t i1, std::int64_t j1) {
  const auto bits = [&](std::int64_t i, std::int64_t j) -> std::uint32_t {
    if (i >= view.shape[0] || j >= view.shape[1]) return 0;
    return core::load_unaligned<std::uint16_t>(element(view, {i, j}));
  };
  return bits(i0, j0) | bits(i1, j1) << 16;
}

TEST_P(Pack, PairsOfAnyStride) {
  if (GetParam()->bfloat16_pairs == nullptr) return;
  constexpr std::uint32_t kUntouched = 0x12345678;
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    Random random(seed);
    const std::int64_t rows = 1 + static_cast<std::int64_t>(random() % 150),
                       columns = 1 + static_cast<std::int64_t>(random() % 150);
    Strided from = make_strided(random, {rows, columns}, Dtype::bfloat16, random() % 3 == 0, true);
    for_each_index(from.view.shape, [&](const auto& index) {
      const std::uint16_t bits = static_cast<std::uint16_t>(random());  // NaN and subnormals too
      std::memcpy(element(from.view, index), &bits, sizeof bits);
    });
    const cpu::Source source{static_cast<const std::byte*>(from.view.data), Dtype::bfloat16, Dtype::bfloat16,
                             from.view.strides_bytes[0], from.view.strides_bytes[1]};
    const std::int64_t padded = core::round_up(columns, 16), ldt = padded + 3;
    const auto packed = [&](std::int64_t lines, auto pack) {
      std::vector<std::uint32_t> to(static_cast<std::size_t>(lines * ldt), kUntouched);
      pack(reinterpret_cast<float*>(to.data()));
      return to;
    };
    const auto by_columns =
        packed(rows, [&](float* to) { cpu::pack_pairs_of_columns(*GetParam(), source, rows, columns, to, ldt); });
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < ldt; ++j) {
        const std::uint32_t expected = 2 * j < columns ? pair_bits(from.view, i, 2 * j, i, 2 * j + 1) : kUntouched;
        ASSERT_EQ(by_columns[static_cast<std::size_t>(i * ldt + j)], expected) << seed << " " << i << " " << j;
      }
    }
    const std::int64_t pairs = core::ceil_div(rows, 2);
    const auto check_rows = [&](const std::vector<std::uint32_t>& to) {
      for (std::int64_t i = 0; i < pairs; ++i) {
        for (std::int64_t j = 0; j < ldt; ++j) {
          const std::uint32_t expected = j < padded ? pair_bits(from.view, 2 * i, j, 2 * i + 1, j) : kUntouched;
          ASSERT_EQ(to[static_cast<std::size_t>(i * ldt + j)], expected) << seed << " " << i << " " << j;
        }
      }
    };
    check_rows(packed(
        pairs, [&](float* to) { cpu::pack_pairs_of_rows(*GetParam(), source, rows, columns, to, ldt, padded); }));
    if (source.col_stride_bytes == 2) {
      check_rows(packed(pairs, [&](float* to) {
        GetParam()->bfloat16_pairs->copy_panel({source.data, source.row_stride_bytes, rows, columns, to, ldt});
      }));
    }
    if (HasFatalFailure()) return;
  }
}

TEST_P(Pack, EveryHalfIsWidenedExactly) {
  std::vector<std::uint16_t> bits(1 << 16);
  for (std::size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<std::uint16_t>(i);
  std::vector<float> half(bits.size()), brain(bits.size());
  GetParam()->widen_float16(bits.data(), 0, 1, static_cast<std::int64_t>(bits.size()), half.data(), 0);
  GetParam()->widen_bfloat16(bits.data(), 0, 1, static_cast<std::int64_t>(bits.size()), brain.data(), 0);
  for (std::size_t i = 0; i < bits.size(); ++i) {
    const float expected = core::float16_to_float(bits[i]);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(half[i])) << i;
    } else {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(half[i]), std::bit_cast<std::uint32_t>(expected)) << i;
    }
    ASSERT_EQ(std::bit_cast<std::uint32_t>(brain[i]), static_cast<std::uint32_t>(i) << 16);
  }
}

TEST_P(Pack, NarrowingRoundsToNearestEven) {
  std::vector<float> values;
  for (std::uint32_t i = 0; i < (1u << 16); ++i) {
    const float value = core::float16_to_float(static_cast<std::uint16_t>(i));
    const float next = std::nextafter(value, 1e30f);
    for (const float near : {value, next, std::nextafter(value, -1e30f),
                             (value + core::float16_to_float(static_cast<std::uint16_t>(i + 1))) / 2})
      values.push_back(near);
    values.push_back(std::bit_cast<float>(i << 16 | 0x8000u));
    values.push_back(std::bit_cast<float>(i << 16 | 0x7fffu));
    values.push_back(std::bit_cast<float>(i << 16 | 0x8001u));
  }
  std::vector<std::uint16_t> half(values.size()), brain(values.size());
  GetParam()->narrow_float16(values.data(), 0, 1, static_cast<std::int64_t>(values.size()), half.data(), 0);
  GetParam()->narrow_bfloat16(values.data(), 0, 1, static_cast<std::int64_t>(values.size()), brain.data(), 0);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(values[i])) {
      ASSERT_TRUE((half[i] & 0x7fff) > 0x7c00);
      ASSERT_TRUE((brain[i] & 0x7fff) > 0x7f80);
      continue;
    }
    ASSERT_EQ(half[i], float16_t(values[i]).bits) << values[i];
    ASSERT_EQ(brain[i], bfloat16_t(values[i]).bits) << values[i];
  }
}

TEST_P(Pack, UnpackWritesOnlyItsElements) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Random random(seed);
    const Dtype dtypes[] = {Dtype::float16, Dtype::bfloat16, Dtype::float32};
    const Dtype dtype = dtypes[random() % 3];
    const std::int64_t rows = 1 + static_cast<std::int64_t>(random() % 9),
                       columns = 1 + static_cast<std::int64_t>(random() % 40);
    Strided to = make_strided(random, {rows, columns}, dtype, random() % 2);
    std::vector<float> from(static_cast<std::size_t>(rows * 50));
    for (float& value : from) value = static_cast<float>(random() % 1000) / 7;
    std::vector<std::byte> expected = to.memory;
    for_each_index(to.view.shape, [&](const auto& index) {
      std::byte* at = expected.data() + (element(to.view, index) - to.memory.data());
      store(at, dtype, from[static_cast<std::size_t>(index[0] * 50 + index[1])]);
    });
    std::byte* data = to.memory.data() + (static_cast<const std::byte*>(to.view.data) - to.memory.data());
    const cpu::Target target{data, dtype, to.view.strides_bytes[0], to.view.strides_bytes[1]};
    cpu::unpack<float>(*GetParam(), from.data(), 50, rows, columns, target);
    ASSERT_EQ(to.memory, expected) << seed;
    cpu::clear(target, rows, columns, seed % 2 ? cpu::Store::cached : cpu::Store::streamed);
    cpu::order_stores();
    for_each_index(to.view.shape, [&](const auto& index) {
      std::memset(expected.data() + (element(to.view, index) - to.memory.data()), 0, size_of(dtype));
    });
    ASSERT_EQ(to.memory, expected) << seed;
  }
}

TEST_P(Pack, ResultsThatRunDown) {
  constexpr std::int64_t kPad = 3;
  for (const Dtype dtype : {Dtype::float16, Dtype::bfloat16, Dtype::float32}) {
    for (const std::int64_t rows : {1, 5, 64, 100}) {
      for (const std::int64_t columns : {2, 17, 64, 90}) {
        Random random(static_cast<std::uint64_t>(rows * 100 + columns));
        const auto size = static_cast<std::int64_t>(size_of(dtype)), down = (rows + kPad) * size;
        std::vector<std::byte> memory(static_cast<std::size_t>(columns * down), std::byte{0x55}), expected = memory;
        std::vector<float> from(static_cast<std::size_t>(rows * 100));
        for (float& value : from) value = static_cast<float>(random() % 1000) / 7;
        for (std::int64_t i = 0; i < rows; ++i) {
          for (std::int64_t j = 0; j < columns; ++j) {
            store(expected.data() + i * size + j * down, dtype, from[static_cast<std::size_t>(i * 100 + j)]);
          }
        }
        const cpu::Target target{memory.data(), dtype, size, down};
        cpu::unpack<float>(*GetParam(), from.data(), 100, rows, columns, target);
        ASSERT_EQ(memory, expected) << rows << " " << columns;
        cpu::clear(target, rows, columns, cpu::Store::cached);
        for (std::int64_t j = 0; j < columns; ++j) {
          std::memset(expected.data() + j * down, 0, static_cast<std::size_t>(rows * size));
        }
        ASSERT_EQ(memory, expected) << rows << " " << columns;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, Pack, testing::ValuesIn(cpu::runnable_kernel_sets()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace maskmm::test
