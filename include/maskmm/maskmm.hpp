// All of maskmm's public C++ interface.
#pragma once

#include "maskmm/array.hpp"
#include "maskmm/block_masked_dot.hpp"
#include "maskmm/block_masked_mm.hpp"
#include "maskmm/derivatives.hpp"
#include "maskmm/dtype.hpp"
#include "maskmm/error.hpp"
#include "maskmm/stream.hpp"
#include "maskmm/version.hpp"
#include "maskmm/view.hpp"
