// Whether a call runs on the Hopper kernel, with which tile.
#pragma once

#include <string>

#include "cuda/choose.hpp"
#include "cuda/sm90/config.hpp"

namespace maskmm::cuda::sm90 {

/// Why a call cannot run here, or nothing.
std::string refusal(const core::Canonical& canonical, const Choice& choice, const DeviceLimits& limits);

/// Whether the copy engine can bring both operands.
bool operands_fit(const core::Canonical& canonical, const Choice& choice);

/// Whether the blocks of every mask are multiples of `of` along both of its axes.
bool blocks_fit(const core::Canonical& canonical, std::int64_t of);

/// The kernel of a call that is not refused.
Kernel choose_kernel(const core::Canonical& canonical, const Choice& choice, const DeviceLimits& limits,
                     std::string& reason);

/// A kernel for results whose tiles run at about one time, and the parts of k that it takes.
struct Wave {
  Kernel kernel;
  std::int64_t parts = 1;
};

/// Of 16-bit operands and masks of bools; none where the call has too many tiles, or does not fit.
Wave choose_wave(const core::Canonical& canonical, const Choice& choice, const DeviceLimits& limits);

/// The kernel of such a call for masks that scale; none where sm80's does it.
Kernel scaling_kernel(const core::Canonical& canonical, const Choice& choice, const DeviceLimits& limits);

/// Room for the counters, and for the lists of gathered tiles.
void add_workspace(const core::Canonical& canonical, const Kernel& kernel, WorkspaceLayout& layout);

}  // namespace maskmm::cuda::sm90
