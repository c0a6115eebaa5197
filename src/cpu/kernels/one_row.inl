// One row of A times rows of B that are where they are, one text for every instruction set. Included after
// micro_kernel.inl.
//
// Sums are in the first-level cache, and rows of B are read side by side, so that a B from memory comes in pieces as
// long as the masks leave, which the hardware's prefetchers foresee: columns of it would be read at half the speed.

template <class T, int K>
void add_k(const RowCall<T>& call, const T* a, const char* b) {
  using S = Simd<T>;
  const auto at = [&](int k, std::int64_t j) { return reinterpret_cast<const T*>(b + k * call.ldb_bytes) + j; };
  typename S::Vector av[K];
  MASKMM_UNROLL
  for (int k = 0; k < K; ++k) av[k] = S::broadcast(a[k]);
  for (const RowStretch<T>* stretch = call.stretches; stretch != call.stretches_end; ++stretch) {
    const T scale = stretch->scale, second = stretch->scale_second;
    const std::int64_t end = stretch->j + stretch->columns, whole = end - stretch->columns % S::kLanes;
    std::int64_t j = stretch->j;
    for (; j < whole; j += S::kLanes) {
      typename S::Vector sum = av[0] * S::load(at(0, j));
      MASKMM_UNROLL
      for (int k = 1; k < K; ++k) sum += av[k] * S::load(at(k, j));
      if (call.scaled) sum = sum * S::broadcast(scale) * S::broadcast(second);
      S::store(call.sums + j, S::load(call.sums + j) + sum);
    }
    for (; j < end; ++j) {
      T sum = a[0] * *at(0, j);
      for (int k = 1; k < K; ++k) sum += a[k] * *at(k, j);
      if (call.scaled) sum = sum * scale * second;
      call.sums[j] += sum;
    }
  }
}

/// The order of the sums is that of k alone.
template <class T>
void add_row(const RowCall<T>& call) {
  constexpr int kTogether = 4;
  const T* a = call.a;
  const char* b = static_cast<const char*>(call.b);
  std::int64_t k = call.k;
  for (; k >= kTogether; k -= kTogether, a += kTogether, b += kTogether * call.ldb_bytes) {
    add_k<T, kTogether>(call, a, b);
  }
  for (; k > 0; --k, ++a, b += call.ldb_bytes) add_k<T, 1>(call, a, b);
}
