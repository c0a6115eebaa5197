"""Every case through every front end and back end."""

from __future__ import annotations

import functools

import pytest

from adapters import Adapter, adapters
from cases import CASES, build
from oracle import Exact, check_result, evaluate

ADAPTERS = {adapter.name: adapter for adapter in adapters()}


@functools.lru_cache(maxsize=4)
def exact_result(name: str) -> Exact:
    call = build(name)
    return evaluate(call.a, call.b, call.block_size, *call.masks())


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> Adapter:
    return ADAPTERS[request.param]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("adapter_name", ADAPTERS)
def test_case(name: str, adapter_name: str) -> None:
    observed = ADAPTERS[adapter_name].observe(name)
    exact = exact_result(name)
    check_result(observed.result, exact)
    assert observed.live_fraction == pytest.approx(exact.live_fraction, rel=1e-12)
