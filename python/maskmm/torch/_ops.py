"""The operations as torch's tracers, torch.compile and torch.export know them: torch.ops.maskmm.block_masked_mm and
block_masked_dot. Operands have two axes or more and masks full block axes (maskmm.torch._canonical); batch axes
broadcast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from maskmm.torch import _direct

_torch: Any = torch  # for what torch leaves without types


@torch.library.custom_op("maskmm::block_masked_mm", mutates_args=())
def block_masked_mm(
    a: Tensor,
    b: Tensor,
    mask_out: Tensor | None,
    mask_lhs: Tensor | None,
    mask_rhs: Tensor | None,
    block_size: Sequence[int],
    precision: str,
) -> Tensor:
    result: Tensor = _direct.block_masked_mm(
        a, b, tuple(block_size), mask_out, mask_lhs, mask_rhs, None, None, precision
    )
    return result


@torch.library.custom_op("maskmm::block_masked_dot", mutates_args=())
def block_masked_dot(
    x: Tensor,
    a: Tensor,
    b: Tensor,
    mask_out: Tensor | None,
    mask_lhs: Tensor | None,
    mask_rhs: Tensor | None,
    block_size: Sequence[int],
    precision: str,
) -> Tensor:
    result: Tensor = _direct.block_masked_dot(
        x, a, b, tuple(block_size), mask_out, mask_lhs, mask_rhs, None, None, precision
    )
    return result


@block_masked_mm.register_fake
def _(
    a: Tensor,
    b: Tensor,
    mask_out: Tensor | None,
    mask_lhs: Tensor | None,
    mask_rhs: Tensor | None,
    block_size: Sequence[int],
    precision: str,
) -> Tensor:
    shape, dtype = _result_type("mm", (a, b, mask_out, mask_lhs, mask_rhs), block_size)
    return a.new_empty(shape, dtype=dtype)


@block_masked_dot.register_fake
def _(
    x: Tensor,
    a: Tensor,
    b: Tensor,
    mask_out: Tensor | None,
    mask_lhs: Tensor | None,
    mask_rhs: Tensor | None,
    block_size: Sequence[int],
    precision: str,
) -> Tensor:
    shape, dtype = _result_type("dot", (x, a, b, mask_out, mask_lhs, mask_rhs), block_size)
    return a.new_empty(shape, dtype=dtype)


def _result_type(operation: str, tensors: tuple[Any, ...], block_size: Any) -> tuple[Any, torch.dtype]:
    if _direct.has_known_shapes(tensors):
        return _direct.result_type(operation, tensors, tuple(block_size))
    a, b = tensors[-5:-3]
    _torch._check(a.shape[-1] == b.shape[-2], lambda: f"b: expected (..., {a.shape[-1]}, N), got {b.shape}")
    batch = _torch.broadcast_shapes(*(x.shape[:-2] for x in tensors if x is not None))
    rows, columns = a.shape[-2], b.shape[-1]
    if operation == "mm":
        return (*batch, rows, columns), torch.promote_types(a.dtype, b.dtype)
    is_double = torch.float64 in (tensors[0].dtype, a.dtype, b.dtype)
    shape = (*batch, _blocks(rows, block_size[0]), _blocks(columns, block_size[1]))
    return shape, torch.float64 if is_double else torch.float32


def _blocks(extent: int, size: int) -> int:
    return (extent + size - 1) // size
