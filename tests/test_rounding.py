"""Every float16 and bfloat16 number, read and rounded: where a sum has one product, which is exact in float32, the
result is that product rounded once. Where the processor multiplies bfloat16 itself, its instructions take operands and
products below the smallest normal float32 as zeros."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import maskmm
from adapters import FLUSHING, Adapter, isolated_adapters
from case_builders import Call
from layouts import LAYOUTS
from oracle import BFLOAT16, Array

ADAPTERS = {adapter.name: adapter for adapter in isolated_adapters()}
EVERY = np.arange(65536, dtype=np.uint16)
FACTORS = [
    1,
    -1,
    0,
    0.5,
    3,
    1e-3,
    257,
    np.pi,
    1e-7,
    6e4,
    np.inf,
    np.nan,
    1 / 3,
    2**-14,
    1.0009765625,
    1.0078125,
    2**-24,
]


def flushed(x: Array) -> Array:
    return np.where(np.abs(x) < np.finfo(np.float32).smallest_normal, np.float32(0), x)


def multiply_every(multiply: Callable[[Call], Array], dtype: Any, change_a: str, change_out: str) -> None:
    a = EVERY.view(dtype)[:, None]
    b = np.array(FACTORS, np.float32).astype(dtype)[None]
    read = flushed if dtype == BFLOAT16 and maskmm.cpu_isa() in FLUSHING else lambda x: x
    with np.errstate(all="ignore"):
        expected = read(read(a.astype(np.float32)) * read(b.astype(np.float32))).astype(dtype)
    if change_a:
        a = LAYOUTS[change_a](a)
    out = np.zeros(expected.shape, dtype)
    if change_out:
        out = LAYOUTS[change_out](out)
    got = multiply(Call(a, b, 64, out=out))
    assert np.array_equal(got.astype(np.float32), expected.astype(np.float32), equal_nan=True)


def read_every(multiply: Callable[[Call], Array], dtype: Any, change: str) -> None:
    """Beside float32 nothing is rounded; a square of ones and zeros would spread NaN, so rows are one wide."""
    a = EVERY.view(dtype)[:, None]
    with np.errstate(all="ignore"):
        expected = a.astype(np.float32) * np.float32(1)
    if change:
        a = LAYOUTS[change](a)
    got = multiply(Call(a, np.ones((1, 33), np.float32), 32))
    assert np.array_equal(got, np.broadcast_to(expected, got.shape), equal_nan=True)
    got = multiply(Call(np.ones((33, 1), np.float32), a.T, 32))
    assert np.array_equal(got, np.broadcast_to(expected.T, got.shape), equal_nan=True)


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("dtype", [np.dtype("float16"), BFLOAT16], ids=str)
def test_every_number(name: str, dtype: Any) -> None:
    adapter: Adapter = ADAPTERS[name]
    for change in ("", "misaligned", "padded_rows"):
        adapter.apply(read_every, adapter.multiply, dtype, change)
        adapter.apply(multiply_every, adapter.multiply, dtype, change, "")
    for change in ("transposed", "every_third", "misaligned"):
        adapter.apply(multiply_every, adapter.multiply, dtype, "", change)
