#include "cpu/order.hpp"

#include <algorithm>
#include <bit>

namespace maskmm::cpu {
namespace {

double count_bits(const BitRows& rows, std::int64_t batch, std::int64_t row, std::int64_t begin, std::int64_t end) {
  std::int64_t count = 0;
  for (std::int64_t word = begin / 64; word * 64 < end; ++word) {
    count += std::popcount(rows.row(batch, row)[word] & bits_between(word, begin, end));
  }
  return static_cast<double>(count);
}

/// About how many live triples a task has. It has one part of K.
double work_of(const core::Canonical& c, const Choice& choice, const Live& live, std::int64_t task) {
  const std::int64_t range = task % choice.row_ranges, panel = task / choice.row_ranges % choice.panels;
  const std::int64_t batch = task / choice.row_ranges / choice.panels;
  const std::int64_t bi_begin = range * choice.task_rows / c.m.block,
                     bj_begin = panel * choice.panel_columns / c.n.block;
  const std::int64_t bi_end = core::ceil_div(std::min((range + 1) * choice.task_rows, c.m.extent), c.m.block);
  const std::int64_t bj_end = core::ceil_div(std::min((panel + 1) * choice.panel_columns, c.n.extent), c.n.block);
  double out = 0, lhs = 0, rhs = 0;
  for (std::int64_t bi = bi_begin; bi < bi_end; ++bi) {
    if (live.out.present()) out += count_bits(live.out, batch, bi, bj_begin, bj_end);
    if (live.lhs.present()) lhs += count_bits(live.lhs, batch, bi, 0, c.k.count());
  }
  for (std::int64_t bj = bj_begin; bj < bj_end && live.rhs.present(); ++bj) {
    rhs += count_bits(live.rhs, batch, bj, 0, c.k.count());
  }
  return (live.out.present() ? out : 1) * (live.lhs.present() ? lhs : 1) * (live.rhs.present() ? rhs : 1);
}

}  // namespace

std::vector<std::int64_t> order_tasks(const core::Canonical& c, const Choice& choice, const Live& live) {
  constexpr std::int64_t kMany = 16;  // of a thread: then the last one is short in any order
  const bool equal = !live.out.present() && !live.lhs.present() && !live.rhs.present();
  if (equal || choice.threads == 1 || choice.k_parts > 1 || choice.tasks > kMany * choice.threads) return {};
  std::vector<double> work;
  std::vector<std::int64_t> order;
  for (std::int64_t task = 0; task < choice.tasks; ++task) {
    work.push_back(work_of(c, choice, live, task));
    order.push_back(task);
  }
  std::stable_sort(order.begin(), order.end(), [&](auto one, auto other) {
    return work[static_cast<std::size_t>(one)] > work[static_cast<std::size_t>(other)];
  });
  return order;
}

}  // namespace maskmm::cpu
