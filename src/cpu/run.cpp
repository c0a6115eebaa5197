// The CPU back end: masks -> bit rows, then tasks.
#include "cpu/run.hpp"

#include <algorithm>
#include <optional>
#include <vector>

#include "core/backend.hpp"
#include "cpu/choose.hpp"
#include "cpu/dispatch.hpp"
#include "cpu/float_environment.hpp"
#include "cpu/live.hpp"
#include "cpu/order.hpp"
#include "cpu/pack.hpp"
#include "cpu/panel_task.hpp"
#include "cpu/parallel.hpp"
#include "cpu/scratch.hpp"
#include "maskmm/stream.hpp"

namespace maskmm::cpu {
namespace {

/// Shared by the threads of a call: sums of parts of K, then the bit rows.
Scratch& call_memory() {
  static thread_local Scratch scratch;
  return scratch;
}

Scratch& task_scratch() {
  static thread_local Scratch scratch;
  return scratch;
}

/// Memory that would be odd to keep between calls goes back.
struct ReleaseLarge {
  Scratch& scratch;
  std::size_t bytes;
  ~ReleaseLarge() {
    if (bytes > (std::size_t{8} << 20)) scratch.release();
  }
};

/// What micro-kernels need of their thread, for as long as it lives.
class KernelState {
 public:
  template <class T>
  explicit KernelState(const Kernels<T>& kernels) : end_(kernels.end) {
    if (kernels.begin != nullptr) kernels.begin();
  }
  ~KernelState() {
    if (end_ != nullptr) end_();
  }
  KernelState(const KernelState&) = delete;
  KernelState& operator=(const KernelState&) = delete;

 private:
  void (*end_)();
};

std::size_t live_bytes(const core::Canonical& canonical) {
  return static_cast<std::size_t>(live_words(canonical) + 1) * sizeof(std::uint64_t);
}

std::size_t shared_sums_bytes(const Choice& choice) {
  return static_cast<std::size_t>(choice.tasks_at_once * choice.task_sums_bytes);
}

/// Calls f(batch, bi, bj, end) for neighbours [bj, end) that mask_out drops in block row `row` of all batch elements.
template <class F>
void for_each_dropped(const core::Canonical& c, const Live& live, std::int64_t row, F f) {
  const std::int64_t batch = row / c.m.count(), bi = row % c.m.count(), count = c.n.count();
  const std::uint64_t* kept = live.out.row(batch, bi);
  for (std::int64_t bj = 0, end; bj < count; bj = end) {
    end = bj + 1;
    if (test_bit(kept, bj)) continue;
    while (end < count && !test_bit(kept, end)) ++end;
    f(batch, bi, bj, end);
  }
}

/// Whether mask_out drops neighbours enough for rows of zeros that are worth storing past the caches.
bool drops_long_rows(const core::Canonical& c, const Live& live) {
  constexpr std::int64_t kLong = 1152;  // bytes; measured: 1024 are not, 1280 are
  std::int64_t stretches = 0, blocks = 0;
  for (std::int64_t row = 0; row < c.m.count() * c.batch_size; ++row) {
    for_each_dropped(c, live, row, [&](std::int64_t, std::int64_t, std::int64_t bj, std::int64_t end) {
      ++stretches;
      blocks += end - bj;
    });
  }
  return blocks * c.n.block * static_cast<std::int64_t>(size_of(c.out.dtype)) > stretches * kLong;
}

/// Zeros where mask_out drops blocks. Between products they would displace operands from the caches.
void clear_dropped(const core::Canonical& c, int threads, const Live& live) {
  parallel_for(c.m.count() * c.batch_size, threads, [&](std::int64_t row) {
    for_each_dropped(c, live, row, [&](std::int64_t batch, std::int64_t bi, std::int64_t bj, std::int64_t end) {
      std::byte* to = core::batch_data(c.out, c.batch, batch) + c.m.begin(bi) * c.out.row_stride_bytes +
                      c.n.begin(bj) * c.out.col_stride_bytes;
      clear({to, c.out.dtype, c.out.row_stride_bytes, c.out.col_stride_bytes}, c.m.size(bi),
            std::min(c.n.begin(end), c.n.extent) - c.n.begin(bj), Store::streamed);
    });
    order_stores();
  });
}

template <class T>
void run_tasks(const core::Canonical& canonical, const Choice& choice, const Live& live, std::byte* shared_sums,
               const std::vector<std::int64_t>& order) {
  const auto in_groups = [&](std::int64_t count, auto work) {
    // Tasks in a row share their set-up, and each prefetches for the next.
    const std::int64_t group = std::clamp<std::int64_t>(count / (std::int64_t{16} * choice.threads), 1, 64);
    const auto run_group = [&](std::int64_t index) {
      const FloatEnvironment environment;
      std::byte* scratch = task_scratch().get(static_cast<std::size_t>(choice.scratch_bytes));
      const KernelState state(kernels_of<T>(choice));
      PanelTask<T> task(canonical, choice, live, scratch, shared_sums);
      for (std::int64_t i = index * group; i < std::min(count, (index + 1) * group); ++i) work(task, i);
      task.flush();
    };
    parallel_for(core::ceil_div(count, group), choice.threads, run_group, choice.idle);
  };
  for (std::int64_t first = 0; first < choice.tasks; first += choice.tasks_at_once) {
    const std::int64_t count = std::min(choice.tasks_at_once, choice.tasks - first);
    in_groups(count, [&](PanelTask<T>& task, std::int64_t index) {
      task.run(order.empty() ? first + index : order[static_cast<std::size_t>(index)]);
    });
    if (choice.k_parts == 1) continue;
    in_groups(count / choice.k_parts * choice.join_pieces, [&](PanelTask<T>& task, std::int64_t index) {
      task.join_parts(first + index / choice.join_pieces * choice.k_parts, index % choice.join_pieces);
    });
  }
}

/// The call, or a copy of it with its roles swapped where that is faster.
class Oriented {
 public:
  Oriented(const core::Canonical& given, const KernelSet& set) : given_(given) {
    if (!prefers_swapped_roles(given, set)) return;
    swapped_ = given;
    core::swap_roles(*swapped_);
  }
  const core::Canonical& call() const { return swapped_ ? *swapped_ : given_; }

 private:
  const core::Canonical& given_;
  std::optional<core::Canonical> swapped_;
};

std::string reason(const core::Canonical& canonical, const Choice& choice) {
  const std::string left = canonical.swapped ? "b" : "a", right = canonical.swapped ? "a" : "b";
  const std::string words =
      left + (choice.a_in_place ? " is read in place" : " is packed") + ", live blocks of " + right;
  if (choice.streams_b) return words + " are read once";
  return words + " are packed for panels of " + std::to_string(choice.panel_columns) +
         (canonical.swapped ? " rows" : " columns");
}

}  // namespace

void run(const core::Canonical& canonical) { run_with(canonical, kernel_set(), num_threads()); }

void run_with(const core::Canonical& given, const KernelSet& set, int threads) {
  const FloatEnvironment environment;
  const Oriented oriented(given, set);
  const core::Canonical& canonical = oriented.call();
  Choice choice = choose(canonical, set, threads);
  const std::size_t sums_bytes = shared_sums_bytes(choice), bytes = sums_bytes + live_bytes(canonical);
  const ReleaseLarge release{call_memory(), bytes};
  std::byte* memory = call_memory().get(bytes);
  const Live live = make_live(canonical, reinterpret_cast<std::uint64_t*>(memory + sums_bytes));
  const std::vector<std::int64_t> order = order_tasks(canonical, choice, live);
  choice.clears_first = choice.clears_first && drops_long_rows(canonical, live);
  if (choice.clears_first) {
    task_scratch().get(static_cast<std::size_t>(choice.scratch_bytes));  // where memory ends nothing is written
    clear_dropped(canonical, choice.threads, live);
  }
  if (canonical.accumulate == Dtype::float64) {
    run_tasks<double>(canonical, choice, live, memory, order);
  } else {
    run_tasks<float>(canonical, choice, live, memory, order);
  }
}

Explanation explain(const core::Canonical& given) {
  const FloatEnvironment environment;
  const Oriented oriented(given, kernel_set());
  const core::Canonical& canonical = oriented.call();
  const Choice choice = choose(canonical, kernel_set(), num_threads());
  const std::size_t bytes = live_bytes(canonical);
  const ReleaseLarge release{call_memory(), bytes};
  const Live live = make_live(canonical, reinterpret_cast<std::uint64_t*>(call_memory().get(bytes)));
  const double triples = static_cast<double>(canonical.m.count()) * static_cast<double>(canonical.n.count()) *
                         static_cast<double>(canonical.k.count()) * static_cast<double>(canonical.batch_size);
  Explanation explanation;
  explanation.device = canonical.device;
  explanation.kernel = kernel_name(choice, canonical.accumulate);
  explanation.isa = choice.set->name;
  explanation.reason = reason(canonical, choice);
  explanation.threads = choice.threads;
  explanation.live_fraction = triples > 0 ? count_live(canonical, live) / triples : 0;
  explanation.workspace_bytes =
      choice.scratch_bytes * choice.threads + static_cast<std::int64_t>(shared_sums_bytes(choice) + bytes);
  return explanation;
}

}  // namespace maskmm::cpu
