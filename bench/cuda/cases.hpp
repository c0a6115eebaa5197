// What bench_cuda times. Its name is what the report reads: type and layout, size, block, masks, pattern, density,
// values.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "maskmm/maskmm.hpp"

namespace maskmm::bench {

struct Case {
  std::string name;
  Dtype dtype;
  std::int64_t m, n, k, block;
  std::string masks;    // of "l", "r", "o"
  std::string pattern;  // "random", "causal", "band", "groups"
  double density;
  std::string kind = "bool";  // or "zero_one" (float32 zeros and ones), "scale" (float32)
  std::string layout = "NN";  // T: a (b) is a transposed view
  Precision precision = Precision::ieee;
};

inline std::vector<Case> all_cases() {
  std::vector<Case> cases;
  const auto add = [&](const std::string& group, const Case& c) {
    char name[160];
    std::snprintf(name, sizeof name, "%s%s %ldx%ldx%ld block %ld %s %s %.2f %s", group.c_str(),
                  c.layout == "NN" ? "" : ("-" + c.layout).c_str(), long(c.m), long(c.n), long(c.k), long(c.block),
                  c.masks.empty() ? "none" : c.masks.c_str(), c.pattern.c_str(), c.density, c.kind.c_str());
    cases.push_back(c);
    cases.back().name = name;
  };
  const double densities[] = {1, 0.5, 0.25, 0.1, 0.05};
  const auto square = [&](const std::string& group, Dtype dtype, std::int64_t size, std::int64_t block,
                          const std::string& masks, Precision precision = Precision::ieee) {
    for (const double density : densities)
      add(group, {"", dtype, size, size, size, block, masks, "random", density, "bool", "NN", precision});
  };
  const Dtype bf16 = Dtype::bfloat16, f16 = Dtype::float16, f32 = Dtype::float32, f64 = Dtype::float64;

  // One size, every mask and pattern.
  add("bf16", {"", bf16, 8192, 8192, 8192, 64, "", "random", 1});
  for (const char* masks : {"l", "r", "o", "lr", "lro"}) square("bf16", bf16, 8192, 64, masks);
  for (const std::int64_t block : {64, 32, 128})
    for (const char* pattern : {"causal", "band", "groups"})
      for (const char* masks : {"l", "o"}) add("bf16", {"", bf16, 8192, 8192, 8192, block, masks, pattern, 0});
  for (const char* masks : {"l", "r", "o", "lr", "lro"}) square("bf16", bf16, 8192, 32, masks);
  for (const char* masks : {"l", "r", "o"}) square("bf16", bf16, 8192, 128, masks);
  square("bf16", bf16, 8192, 16, "l");
  for (const char* masks : {"l", "o"}) square("f16", f16, 8192, 64, masks);
  for (const std::int64_t block : {64, 32})
    for (const char* kind : {"zero_one", "scale"})
      for (const double density : {1.0, 0.25})
        add("bf16", {"", bf16, 8192, 8192, 8192, block, "l", "random", density, kind});
  for (const char* layout : {"NT", "TN", "TT"})
    for (const char* masks : {"l", "r", "o"})
      for (const double density : {1.0, 0.25})
        add("bf16", {"", bf16, 8192, 8192, 8192, 64, masks, "random", density, "bool", layout});

  // Other sizes.
  for (const std::int64_t size : {16384, 4096, 2048})
    for (const char* masks : {"l", "o"})
      for (const double density : {1.0, 0.5, 0.25, 0.1})
        if (size < 16384 || density <= 0.25) add("bf16", {"", bf16, size, size, size, 64, masks, "random", density});
  for (const double density : densities) add("bf16", {"", bf16, 4096, 1024, 4096, 64, "l", "random", density});
  for (const double density : {0.5, 0.25}) {
    for (const std::int64_t k : {1000, 1024}) add("bf16", {"", bf16, 8192, 8192, k, 64, "l", "random", density});
    add("bf16", {"", bf16, 16384, 11008, 4096, 64, "r", "random", density});
  }
  for (const auto [m, k] : {std::pair{1536, 7168}, {7168, 6144}, {12288, 7168}})  // X X^T, its lower half
    add("bf16", {"", bf16, m, m, k, 64, "o", "causal", 0, "bool", "NT"});
  for (const std::int64_t size : {256, 512, 1024, 2048})
    for (const std::int64_t block : {64, 32})
      for (const char* masks : {"", "l", "o", "lr"})
        if (*masks || block == 64) add("f16", {"", f16, size, size, size, block, masks, "random", *masks ? 0.5 : 1});
  for (const std::int64_t m : {1, 16, 64})
    for (const double density : densities) add("bf16", {"", bf16, m, 8192, 8192, 64, "r", "random", density});

  // Wide types.
  for (const char* masks : {"l", "r", "o"}) square("f32", f32, 4096, 64, masks);
  add("f32", {"", f32, 4096, 4096, 4096, 64, "l", "causal", 0});
  square("f32", f32, 4096, 32, "l");
  for (const char* masks : {"l", "o"}) square("tf32", f32, 4096, 64, masks, Precision::tf32);
  for (const char* masks : {"l", "r", "o"}) square("f64", f64, 4096, 64, masks);
  return cases;
}

}  // namespace maskmm::bench
