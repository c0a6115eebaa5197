// order: which tasks run first.
#pragma once

#include <cstdint>
#include <vector>

#include "core/canonical.hpp"
#include "cpu/choose.hpp"
#include "cpu/live.hpp"

namespace maskmm::cpu {

/// The tasks with the most work first, so that threads end together; empty where their own order does as well.
std::vector<std::int64_t> order_tasks(const core::Canonical& canonical, const Choice& choice, const Live& live);

}  // namespace maskmm::cpu
