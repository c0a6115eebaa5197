"""The operation and its block-wise reduction in MLX's own operations: a graph that MLX can trace and compile.

Where MLX traces (mx.compile, mx.vmap) arrays have no elements that the kernels could read. These graphs give the same,
whatever dead blocks hold, at a dense price: a product for each block along k.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from maskmm._derivatives import BlockSizes

mx: Any = importlib.import_module("mlx.core")


def mm(a: Any, b: Any, block_size: BlockSizes, masks: tuple[Any, Any, Any], dtype: Any) -> Any:
    """Arguments in canonical form; dtype: of the result."""
    m, n, _ = block_size
    total, live = _sum(a, b, block_size, masks, mx.float64 if dtype == mx.float64 else mx.float32)
    out = _clean(masks[0])
    if out is not None:
        scale = _spread(out.astype(total.dtype), m, n, *total.shape[-2:])
        total, live = total * scale, live & (scale != 0)
    return mx.where(live, total, 0).astype(dtype)


def dot(x: Any, a: Any, b: Any, block_size: BlockSizes, masks: tuple[Any, Any, Any], dtype: Any) -> Any:
    m, n, _ = block_size
    total, live = _sum(a, b, block_size, masks, dtype)
    products = mx.where(live, x.astype(dtype) * total, 0)
    rows, columns = products.shape[-2:]
    products = mx.pad(products, [(0, 0)] * (products.ndim - 2) + [(0, -rows % m), (0, -columns % n)])
    blocks = (products.shape[-2] // m, products.shape[-1] // n)
    sums = products.reshape(*products.shape[:-2], blocks[0], m, blocks[1], n).sum((-3, -1))
    out = _clean(masks[0])
    if out is None:
        return sums
    scale = out.astype(dtype)
    return mx.where(scale != 0, sums * scale, 0)


def _sum(a: Any, b: Any, block_size: BlockSizes, masks: tuple[Any, Any, Any], dtype: Any) -> tuple[Any, Any]:
    """The sum over live bk, without mask_out's scale, and where anything is live."""
    m, n, k = block_size
    out, lhs, rhs = map(_clean, masks)
    (M, K), N = a.shape[-2:], b.shape[-1]
    batch = np.broadcast_shapes(*(tuple(x.shape[:-2]) for x in (a, b, out, lhs, rhs) if x is not None))
    total, any_live = (mx.zeros((*batch, M, N), t) for t in (dtype, mx.bool_))
    kept = True if out is None else _spread(out != 0, m, n, M, N)
    for bk in range(-(-K // k)):
        inner = slice(bk * k, min((bk + 1) * k, K))
        product = a[..., inner].astype(dtype) @ b[..., inner, :].astype(dtype)
        scale = mx.ones((1, 1), dtype)
        if lhs is not None:
            scale = scale * _spread(_part(lhs, bk, -1).astype(dtype), m, 1, M, 1)
        if rhs is not None:
            scale = scale * _spread(_part(rhs, bk, -2).astype(dtype), 1, n, 1, N)
        live = mx.array(kept)
        if lhs is not None:
            live = live & _spread(_part(lhs, bk, -1) != 0, m, 1, M, 1)
        if rhs is not None:
            live = live & _spread(_part(rhs, bk, -2) != 0, 1, n, 1, N)
        total = total + mx.where(live, product * scale, 0)
        any_live = any_live | live
    return total, any_live


def _clean(mask: Any) -> Any:
    """A bool mask may hold other bytes than 0 and 1, which MLX would count as 255."""
    return mask if mask is None or mask.dtype != mx.bool_ else mask.view(mx.uint8) != 0


def _part(mask: Any, bk: int, axis: int) -> Any:
    """Of a mask with an axis of blocks along k, the part of block bk; that axis may have size 1."""
    return mask if mask.shape[axis] == 1 else mx.take(mask, mx.array([bk]), axis)


def _spread(mask: Any, rows: int, columns: int, M: int, N: int) -> Any:
    """A value for each element instead of one for each block; axes of size 1 stay."""
    if mask.shape[-2] > 1:
        mask = mx.repeat(mask, rows, -2)[..., :M, :]
    if mask.shape[-1] > 1:
        mask = mx.repeat(mask, columns, -1)[..., :N]
    return mask
