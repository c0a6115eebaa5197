// The sum of x * sums over a rectangle, one text for every instruction set. Included after micro_kernel.inl.

/// Four vectors of sums, so that each waits for itself only every fourth time. The order is that of the shape alone.
template <class T>
T sum_products(const T* x, std::int64_t ldx, const T* sums, std::int64_t lds, std::int64_t rows, std::int64_t columns) {
  using S = Simd<T>;
  constexpr std::int64_t kSums = 4;
  const std::int64_t whole = columns - columns % S::kLanes;
  typename S::Vector total[kSums] = {};
  T rest = 0;
  for (std::int64_t i = 0; i < rows; ++i, x += ldx, sums += lds) {
    std::int64_t j = 0;
    for (; j + kSums * S::kLanes <= whole; j += kSums * S::kLanes) {
      MASKMM_UNROLL
      for (std::int64_t v = 0; v < kSums; ++v) {
        total[v] += S::load(x + j + v * S::kLanes) * S::load(sums + j + v * S::kLanes);
      }
    }
    for (; j < whole; j += S::kLanes) {  // of narrow blocks: neighbouring rows go to different sums
      total[(i + j / S::kLanes) % kSums] += S::load(x + j) * S::load(sums + j);
    }
    for (; j < columns; ++j) rest += x[j] * sums[j];
  }
  const typename S::Vector all = (total[0] + total[1]) + (total[2] + total[3]);
  for (int lane = 0; lane < S::kLanes; ++lane) rest += all[lane];
  return rest;
}
