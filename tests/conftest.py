"""Settings that all Python tests share."""

from __future__ import annotations

import hypothesis

import gpu_arrays
import maskmm

# Examples follow from a test's code alone, so that a run can be repeated; --hypothesis-profile=search looks further.
hypothesis.settings.register_profile(
    "default-deterministic", derandomize=True, deadline=None, max_examples=600, database=None
)
hypothesis.settings.register_profile("search", deadline=None, max_examples=6000)
hypothesis.settings.load_profile("default-deterministic")

# Tests of arrays on a GPU are there where a GPU, or two, and the frameworks are.
collect_ignore = []
if not gpu_arrays.usable("torch"):
    collect_ignore += ["test_gpu_torch.py"]
if not all(map(gpu_arrays.usable, gpu_arrays.FRAMEWORKS)):
    collect_ignore += ["test_gpu_arrays.py"]
if not gpu_arrays.usable("torch") or len(maskmm.devices()) < 3:
    collect_ignore += ["test_gpu_devices.py"]
