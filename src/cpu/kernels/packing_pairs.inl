// Packing of pairs with AVX-512 BW. Included after packing.inl.

/// Pairs of 32 elements each of two rows: of the first 16, and of the others.
inline __m512i join_low(__m512i first, __m512i second) {
  const __m512i order = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37,
                                         5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
  return _mm512_permutex2var_epi16(first, order, second);
}
inline __m512i join_high(__m512i first, __m512i second) {
  const __m512i order = _mm512_set_epi16(63, 31, 62, 30, 61, 29, 60, 28, 59, 27, 58, 26, 57, 25, 56, 24, 55, 23, 54, 22,
                                         53, 21, 52, 20, 51, 19, 50, 18, 49, 17, 48, 16);
  return _mm512_permutex2var_epi16(first, order, second);
}

/// Up to 32 elements of a row of B, zeros behind them.
inline __m512i load_row(const void* from, std::int64_t count) {
  if (count >= 32) return _mm512_loadu_si512(from);
  return count > 0 ? _mm512_maskz_loadu_epi16((1u << count) - 1, from) : _mm512_setzero_si512();
}

/// Two rows of bfloat16 -> one of pairs.
void copy_pairs(const PanelCopy<float>& copy) {
  const char* from = static_cast<const char*>(copy.from);
  float* to = copy.to;
  for (std::int64_t row = 0; row < copy.rows; row += 2, from += 2 * copy.ldf_bytes, to += copy.ldt) {
    for (std::int64_t ahead = row + kRowsAhead; ahead < row + kRowsAhead + 2 && ahead < copy.rows; ++ahead) {
      const char* line = from + (ahead - row) * copy.ldf_bytes;
      for (std::int64_t byte = 0; byte < 2 * copy.columns; byte += 64) __builtin_prefetch(line + byte, 0, 3);
    }
    const bool whole = row + 1 < copy.rows;
    for (std::int64_t j = 0; j < copy.columns; j += 32) {
      const std::int64_t left = copy.columns - j;
      const __m512i first = load_row(from + 2 * j, left);
      const __m512i second = whole ? load_row(from + copy.ldf_bytes + 2 * j, left) : _mm512_setzero_si512();
      _mm512_storeu_si512(to + j, join_low(first, second));
      if (left > 16) _mm512_storeu_si512(to + j + 16, join_high(first, second));
    }
  }
}
