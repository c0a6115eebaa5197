"""Ways to lay out the same elements in memory: name -> function that returns an equal array, or for the spread and
overlapping ones another array of the same shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from oracle import FLOATS, Array

LAYOUTS: dict[str, Callable[[Array], Array]] = {}


def layout(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    LAYOUTS[function.__name__] = function
    return function


@layout
def transposed(x: Array) -> Array:
    return np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)


@layout
def fortran(x: Array) -> Array:
    return np.asfortranarray(x)


@layout
def padded_rows(x: Array) -> Array:
    return _inside(x, [slice(None)] * (x.ndim - 1) + [slice(1, -2)], (0,) * (x.ndim - 1) + (3,))


@layout
def every_third(x: Array) -> Array:
    big = np.full((*x.shape[:-2], 3 * x.shape[-2], 3 * x.shape[-1]), _filler(x), x.dtype)
    big[..., ::3, 1::3] = x
    return big[..., ::3, 1::3]


@layout
def reversed_rows(x: Array) -> Array:
    return np.ascontiguousarray(x[..., ::-1, :])[..., ::-1, :]


@layout
def reversed_all(x: Array) -> Array:
    flip = (slice(None, None, -1),) * x.ndim
    return np.ascontiguousarray(x[flip])[flip]


@layout
def one_row_spread(x: Array) -> Array:
    return np.broadcast_to(x[..., :1, :].copy(), x.shape)


@layout
def one_column_spread(x: Array) -> Array:
    return np.broadcast_to(x[..., :1].copy(), x.shape)


@layout
def one_value_spread(x: Array) -> Array:
    return np.broadcast_to(x[..., :1, :1].copy(), x.shape)


@layout
def overlapping_rows(x: Array) -> Array:
    line = np.ascontiguousarray(np.resize(x, x.shape[-2] + x.shape[-1]))
    return as_strided(line, x.shape, (0,) * (x.ndim - 2) + (x.itemsize, x.itemsize))


@layout
def misaligned(x: Array) -> Array:
    raw = np.empty(x.nbytes + 1, np.uint8)[1:]
    result = raw.view(x.dtype).reshape(x.shape)
    result[...] = x
    return result


@layout
def field(x: Array) -> Array:
    record = np.zeros(x.shape, [("before", "u1"), ("x", "u1", x.itemsize), ("after", "u1", 2)])
    record["x"] = np.ascontiguousarray(x).view(np.uint8).reshape(*x.shape, x.itemsize)
    return np.ndarray(x.shape, x.dtype, record, 1, record.strides)


@layout
def readonly(x: Array) -> Array:
    x = x.copy()
    x.flags.writeable = False
    return x


def _filler(x: Array) -> Any:
    return np.nan if x.dtype in FLOATS else 1


def _inside(x: Array, where: Any, extra: tuple[int, ...]) -> Array:
    big = np.full(tuple(n + e for n, e in zip(x.shape, extra, strict=True)), _filler(x), x.dtype)
    big[tuple(where)] = x
    return big[tuple(where)]
