// A result of one row, where B is large: rows of B are read side by side, where they are.
#include <algorithm>

#include "cpu/panel_task.hpp"

namespace maskmm::cpu {

template <class T>
void PanelTask<T>::add_row() {
  RowStretch<T> stretches[kMostStretches];
  const bool scaled = live_.lhs.scaled || live_.rhs.scaled;
  for (std::int64_t bk = bk_begin_; bk < bk_end_; ++bk) {
    if (live_.lhs.present() && !test_bit(live_.lhs.row(batch_, 0), bk)) continue;
    const std::int64_t k = c_.k.begin(bk);
    RowCall<T> call;
    call.a = reinterpret_cast<const T*>(a_) + k;
    call.b = b_ + k * c_.b.row_stride_bytes;
    call.ldb_bytes = c_.b.row_stride_bytes;
    call.k = c_.k.size(bk);
    call.scaled = scaled;
    call.sums = sums_ - j_begin_;
    call.stretches = stretches;
    std::int64_t count = 0;
    const auto flush = [&] {
      call.stretches_end = stretches + count;
      if (count > 0) kernels_of<T>(choice_).add_row(call);
      count = 0;
    };
    for (std::int64_t bj = bj_begin_; bj < bj_end_; ++bj) {
      if (!kept(0, bj) || (live_.rhs.present() && !test_bit(live_.rhs.row(batch_, bj), bk))) continue;
      const std::int64_t j = std::max(bj * column_block_, j_begin_), end = std::min((bj + 1) * column_block_, j_end_);
      if (count > 0 && !scaled && stretches[count - 1].j + stretches[count - 1].columns == j) {
        stretches[count - 1].columns = end - stretches[count - 1].j;
        continue;
      }
      if (count == kMostStretches) flush();
      const Scale scale = scaled ? block_scale(0, bj, bk) : Scale{T(1), T(1)};
      stretches[count++] = {j, end - j, scale.first, scale.second};
    }
    flush();
  }
}

template void PanelTask<float>::add_row();
template void PanelTask<double>::add_row();

}  // namespace maskmm::cpu
