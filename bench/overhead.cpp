// The time of a whole call from C++ where the product is next to nothing: what checking, choosing and reading masks
// cost.
//
//   cmake -S bench -B build/bench -DCMAKE_PREFIX_PATH=<where maskmm is installed> -DCMAKE_BUILD_TYPE=Release
//   cmake --build build/bench && build/bench/overhead
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <maskmm/maskmm.hpp>
#include <vector>

namespace {

constexpr int kRounds = 21, kCalls = 10000;

// Nanoseconds of a call: the median of kRounds rounds.
template <class Call>
double nanoseconds(Call call) {
  std::vector<double> rounds;
  for (int round = 0; round < kRounds; ++round) {
    auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kCalls; ++i) call();
    std::chrono::duration<double, std::nano> passed = std::chrono::steady_clock::now() - start;
    rounds.push_back(passed.count() / kCalls);
  }
  std::nth_element(rounds.begin(), rounds.begin() + kRounds / 2, rounds.end());
  return rounds[kRounds / 2];
}

}  // namespace

int main() {
  using maskmm::array;
  std::printf("maskmm %s, %s\n", maskmm::version().c_str(), maskmm::cpu_isa().c_str());
  for (std::int64_t size : {16, 32, 64}) {
    array a({size, size}, maskmm::Dtype::float32), b({size, size}, maskmm::Dtype::float32);
    array out({size, size}, maskmm::Dtype::float32);
    std::fill_n(a.data<float>(), a.size(), 1.0f);
    std::fill_n(b.data<float>(), b.size(), 1.0f);
    array mask({size / 16, size / 16}, maskmm::Dtype::bool_);
    std::fill_n(mask.data<bool>(), mask.size(), true);
    double without = nanoseconds([&] { maskmm::block_masked_mm(a, b, 16, {}, {}, {}, {}, out.mutable_view()); });
    double masked = nanoseconds([&] { maskmm::block_masked_mm(a, b, 16, {}, mask, {}, {}, out.mutable_view()); });
    double allocating = nanoseconds([&] { maskmm::block_masked_mm(a, b, 16, {}, mask); });
    std::printf("%3d^3: no mask %.0f ns, mask_lhs %.0f ns, mask_lhs with a new result %.0f ns\n",
                static_cast<int>(size), without, masked, allocating);
  }
}
