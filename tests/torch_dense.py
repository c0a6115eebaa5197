"""The operations as plain differentiable torch, for gradients: masks are multiplied in, so nothing dead may be NaN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Inputs = dict[str, Any]  # by the names of the arguments; None where absent
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def spread(mask: Any, sizes: tuple[int, int], shape: tuple[int, int]) -> Any:
    """A mask for each element."""
    blocks = [-(-extent // size) for extent, size in zip(shape, sizes, strict=True)]
    mask = mask.expand(*mask.shape[:-2], *blocks)
    return mask.repeat_interleave(sizes[0], -2).repeat_interleave(sizes[1], -1)[..., : shape[0], : shape[1]]


def product(inputs: Inputs, sizes: tuple[int, int, int], dtype: Any = torch.float64) -> Any:
    """The masked product of operands with two axes or more, in that type."""
    m, n, k = sizes
    a, b = inputs["a"].to(dtype), inputs["b"].to(dtype)
    rows, inner, columns = a.shape[-2], a.shape[-1], b.shape[-1]
    if inputs.get("mask_lhs") is not None:
        a = a * spread(inputs["mask_lhs"].to(dtype), (m, k), (rows, inner))
    if inputs.get("mask_rhs") is not None:
        b = b * spread(inputs["mask_rhs"].to(dtype), (k, n), (inner, columns))
    result = a @ b
    if inputs.get("mask_out") is not None:
        result = result * spread(inputs["mask_out"].to(dtype), (m, n), (rows, columns))
    return result


def dot(inputs: Inputs, sizes: tuple[int, int, int], dtype: Any = torch.float64) -> Any:
    """Its block-wise reduction with x."""
    x = inputs["x"].to(dtype) * product(inputs, sizes, dtype)
    m, n = sizes[:2]
    padded = torch.nn.functional.pad(x, (0, -x.shape[-1] % n, 0, -x.shape[-2] % m))
    return padded.unflatten(-1, (-1, n)).unflatten(-3, (-1, m)).sum((-1, -3))


def numbers(*shape: int, dtype: Any = torch.float64, device: str = "cpu", seed: int = 0) -> Any:
    """Normal numbers."""
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)


def scales(*shape: int, dtype: Any = torch.float64, device: str = "cpu", seed: int = 0) -> Any:
    """Normal numbers of which about a third are zero."""
    x = numbers(*shape, seed=seed)
    return torch.where(x.abs() < 0.43, 0, x).to(device, dtype)


def example(
    device: str = "cpu", dtype: Any = torch.float64, batch: bool = False
) -> tuple[Inputs, tuple[int, int, int]]:
    """All five inputs, ragged, with scales that are zero here and there."""
    lead, other = ((3,), (2, 1)) if batch else ((), ())
    inputs = {
        "a": numbers(*lead, 37, 52, device=device, dtype=dtype, seed=1),
        "b": numbers(52, 41, device=device, dtype=dtype, seed=2),
        "mask_out": scales(*other, 3, 2, device=device, dtype=dtype, seed=3),
        "mask_lhs": scales(*lead, 3, 4, device=device, dtype=dtype, seed=4),
        "mask_rhs": scales(4, 1 if batch else 2, device=device, dtype=dtype, seed=5),
    }
    return inputs, (16, 32, 16)


def call(function: Callable[..., Any], inputs: Inputs, sizes: Any, **more: Any) -> Any:
    """A function of maskmm's on inputs by name."""
    x = (inputs["x"],) if "x" in inputs else ()
    masks = {name: mask for name, mask in inputs.items() if name.startswith("mask")}
    return function(*x, inputs["a"], inputs["b"], sizes, **masks, **more)
