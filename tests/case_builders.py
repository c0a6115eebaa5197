"""What the table of cases is made of: arrays, products, masks, and changes to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from layouts import transposed
from maskmm import patterns
from oracle import FLOATS, Array

OTHER_TYPES = tuple(np.dtype(t) for t in ("?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"))
SPECIALS = (np.nan, np.inf, -np.inf)
BlockSize = int | tuple[int, int, int]
Rng = np.random.Generator


@dataclass
class Call:
    """The arguments of one call."""

    a: Array
    b: Array
    block_size: BlockSize = 64
    mask_out: Array | None = None
    mask_lhs: Array | None = None
    mask_rhs: Array | None = None
    out: Array | None = None

    def masks(self) -> tuple[Array | None, Array | None, Array | None]:
        return self.mask_out, self.mask_lhs, self.mask_rhs

    def inputs(self) -> list[Array]:
        return [x for x in (self.a, self.b, *self.masks()) if x is not None]


def grid(extent: int, block: int) -> int:
    return -(-extent // block)


def numbers(rng: Rng, shape: tuple[int, ...], dtype: Any = np.float32) -> Array:
    """Normal numbers; small integers for integer types."""
    dtype = np.dtype(dtype)
    if dtype in FLOATS:
        return rng.standard_normal(shape).astype(dtype)
    if dtype == np.bool_:
        return rng.random(shape) < 0.5
    return rng.integers(0 if dtype.kind == "u" else -9, 10, shape).astype(dtype)


def bits(rng: Rng, shape: tuple[int, ...], density: float = 0.6) -> Array:
    return rng.random(shape) < density


def product(
    rng: Rng,
    M: int,
    N: int,
    K: int,
    block_size: BlockSize = 64,
    masks: str = "out lhs rhs",
    density: float = 0.6,
    dtype: Any = np.float32,
    batch: tuple[int, ...] = (),
    dtype_b: Any = None,
) -> Call:
    """A random product with the named bool masks."""
    block_m, block_n, block_k = (block_size,) * 3 if isinstance(block_size, int) else block_size
    m, n, k = grid(M, block_m), grid(N, block_n), grid(K, block_k)
    a, b = numbers(rng, (*batch, M, K), dtype), numbers(rng, (*batch, K, N), dtype_b or dtype)
    shapes = {"out": (m, n), "lhs": (m, k), "rhs": (k, n)}
    chosen = {f"mask_{name}": bits(rng, (*batch, *shapes[name]), density) for name in masks.split()}
    return Call(a, b, block_size, **chosen)


def patterned(rng: Rng, which: str, pattern: str, block: int) -> Call:
    call = product(rng, 300, 300, 300, block, "")
    n = grid(300, block)
    distance = np.arange(n)[:, None] - np.arange(n)
    mask = {
        "causal": patterns.causal(n),
        "anticausal": patterns.causal(n).T,
        "band": patterns.band(n),
        "diagonal": patterns.diagonal_groups(n, groups=n),
        "checkers": distance % 2 == 0,
        "one row": np.broadcast_to(np.arange(n)[:, None] == n - 1, (n, n)),
        "one column": np.broadcast_to(np.arange(n) == n - 1, (n, n)),
        "corner": (np.arange(n)[:, None] == n - 1) & (np.arange(n) == n - 1),
    }[pattern]
    setattr(call, f"mask_{which}", mask)
    return call


def mask_values(rng: Rng, shape: tuple[int, ...], dtype: Any) -> Array:
    """Zeros, ones and scales of both signs; -0.0 and, in wide floats, values around float32's range."""
    dtype = np.dtype(dtype)
    if dtype == np.bool_:
        return rng.choice(np.array([0, 1, 2, 255], np.uint8), shape).view(bool)
    values: list[float] = [0, 0, 1, 2, 3] if dtype.kind == "u" else [0, 0, 1, -1, 2, -3]
    if dtype in FLOATS:
        values += [-0.0, 0.5, -1.7]
    return rng.choice(np.array(values), shape).astype(dtype)


def masked_by(
    rng: Rng, which: str, mask_dtype: Any, dtype: Any, block: int = 16, extents: Any = (60, 70, 100)
) -> Call:
    call = product(rng, *extents, block, which, dtype=dtype)
    for name in which.split():
        mask = getattr(call, f"mask_{name}")
        setattr(call, f"mask_{name}", mask_values(rng, mask.shape, mask_dtype))
    return call


def with_scales(call: Call, rng: Rng, dtype: Any = np.float32) -> Call:
    """Its bool masks become float ones with scales."""
    for name in ("mask_out", "mask_lhs", "mask_rhs"):
        mask = getattr(call, name)
        if mask is not None:
            setattr(call, name, np.where(mask, rng.standard_normal(mask.shape), -0.0).astype(dtype))
    return call


def with_transposed(call: Call, which: str) -> Call:
    setattr(call, which, transposed(getattr(call, which)))
    return call


def laid_out(rng: Rng, which: str, change: Callable[[Array], Array], dtype: Any, extents: Any) -> Call:
    call = product(rng, *extents, 32, dtype=dtype)
    if "mask" in which:
        call = with_scales(call, rng, dtype)
    for name in which.split():
        setattr(call, name, change(getattr(call, name)))
    return call


def both(call: Call, left: Callable[[Array], Array], right: Callable[[Array], Array]) -> Call:
    call.a, call.b = left(call.a), right(call.b)
    return call


def into(
    rng: Rng, change: Callable[[Array], Array], dtype: Any, extents: Any, batch: tuple[int, ...] = ()
) -> Call:
    call = product(rng, *extents, 32, dtype=dtype, batch=batch)
    call.out = change(np.full((*batch, *extents[:2]), np.nan, dtype))
    return call


def poisoned(
    rng: Rng, dtype: Any, masks: str, block: int, extents: Any, scaled: bool, batch: Any = ()
) -> Call:
    """NaN and Inf in every block of a and b that no live triple reads: the result has none."""
    call = product(rng, *extents, block, masks, 0.5, dtype, batch)
    if scaled:
        call = with_scales(call, rng)
    ones = np.ones((*batch, 1, 1))
    out, lhs, rhs = (ones if mask is None else mask != 0 for mask in call.masks())
    m, n, k = (grid(extent, block) for extent in extents)
    live = (
        np.broadcast_to(out, (*batch, m, n))[..., :, :, None].astype(bool)
        & np.broadcast_to(lhs, (*batch, m, k))[..., :, None, :].astype(bool)
        & np.broadcast_to(rhs, (*batch, k, n)).swapaxes(-1, -2)[..., None, :, :].astype(bool)
    )
    for x, read in ((call.a, live.any(axis=-2)), (call.b, live.any(axis=-3).swapaxes(-1, -2))):
        spread = np.repeat(np.repeat(read, block, -2), block, -1)[..., : x.shape[-2], : x.shape[-1]]
        x[~spread] = rng.choice(SPECIALS, x.shape).astype(x.dtype)[~spread]
    return call


def facing(rng: Rng, dtype: Any, block: int, scaled: bool, density: float) -> Call:
    """NaN and Inf anywhere: they reach what live triples carry them to and nothing else."""
    call = product(rng, 150, 170, 190, block, "out lhs rhs", 0.5, dtype)
    for x in (call.a, call.b):
        where = rng.random(x.shape) < density
        x[where] = rng.choice(SPECIALS, x.shape).astype(x.dtype)[where]
    return with_scales(call, rng) if scaled else call


def changed(call: Call, **changes: Any) -> Call:
    for name, value in changes.items():
        setattr(call, name, value)
    return call


def column(*values: float, dtype: Any = np.float32) -> Array:
    return np.array(values, dtype)[:, None]
