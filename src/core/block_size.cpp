#include <string>

#include "maskmm/block_masked_mm.hpp"

namespace maskmm {

std::string to_string(const BlockSize& block_size) {
  const auto& [m, n, k] = block_size;
  if (m == n && n == k) return std::to_string(m);
  return "(" + std::to_string(m) + ", " + std::to_string(n) + ", " + std::to_string(k) + ")";
}

}  // namespace maskmm
