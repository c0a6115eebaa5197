"""Settings that all Python tests share."""

from __future__ import annotations

import hypothesis

# Examples follow from a test's code alone, so that a run can be repeated; --hypothesis-profile=search looks further.
hypothesis.settings.register_profile(
    "default-deterministic", derandomize=True, deadline=None, max_examples=100, database=None
)
hypothesis.settings.register_profile("search", deadline=None, max_examples=2000)
hypothesis.settings.load_profile("default-deterministic")
