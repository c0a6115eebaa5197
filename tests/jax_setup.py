"""JAX as the tests use it: 64-bit types, and its memory left to others where there is a GPU."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from oracle import Array

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
jax: Any = pytest.importorskip("jax", reason="the extra 'test' installs it")
jax.config.update("jax_enable_x64", True)
jnp: Any = jax.numpy


def dense(a: Any, b: Any, block_size: tuple[int, int, int], out: Any, lhs: Any, rhs: Any) -> Any:
    """The same product with masks multiplied into dense matrices: right where all values are finite."""
    m, n, k = block_size
    M, K, N = *a.shape[-2:], b.shape[-1]

    def spread(mask: Any, rows: int, columns: int, height: int, width: int) -> Any:
        if mask is None:
            return jnp.ones((1, 1))
        return jnp.repeat(jnp.repeat(mask, rows, -2), columns, -1)[..., :height, :width]

    product = (a * spread(lhs, m, k, M, K)) @ (b * spread(rhs, k, n, K, N))
    return product * spread(out, m, n, M, N)


def block_sums(x: Any, block_size: tuple[int, int, int]) -> Any:
    m, n, _ = block_size
    rows, columns = x.shape[-2:]
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, -rows % m), (0, -columns % n)])
    x = x.reshape(*x.shape[:-2], x.shape[-2] // m, m, x.shape[-1] // n, n)
    return x.sum((-3, -1))


def scales(rng: np.random.Generator, *shape: int) -> Array:
    """Float masks, zeros among them."""
    return np.where(rng.random(shape) < 0.6, rng.standard_normal(shape), 0) / 4


def assert_close(x: Any, y: Any, tolerance: float = 1e-12) -> None:
    assert x.shape == y.shape
    assert x.dtype == y.dtype
    scale = float(np.abs(np.asarray(y, np.float64)).max(initial=1e-300))
    difference = np.abs(np.asarray(x, np.float64) - np.asarray(y, np.float64)).max(initial=0)
    assert difference <= tolerance * scale, f"{difference} of {scale}"
