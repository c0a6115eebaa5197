"""The masks of maskmm.patterns as boolean tensors, made on the device where they are wanted: True where a block is
kept. Counts are in blocks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from maskmm.patterns import _count, _extents

__all__ = ["band", "causal", "diagonal_groups", "from_sequence_lengths", "random"]

Place = torch.device | str | int | None


def causal(n_rows: int, n_cols: int | None = None, *, device: Place = None) -> Tensor:
    """Blocks on and below the diagonal, which ends in the last row and column: ``maskmm.patterns.causal``.

    >>> causal(2, 3).int()
    tensor([[1, 1, 0],
            [1, 1, 1]], dtype=torch.int32)
    """
    n_rows, n_cols = _extents(n_rows, n_cols)
    return torch.ones(n_rows, n_cols, dtype=torch.bool, device=device).tril(n_cols - n_rows)


def band(
    n_rows: int, n_cols: int | None = None, *, below: int = 1, above: int | None = None, device: Place = None
) -> Tensor:
    """Blocks with ``-below <= column - row <= above``; above is below where absent: ``maskmm.patterns.band``.

    >>> band(3, below=1, above=0).int()
    tensor([[1, 0, 0],
            [1, 1, 0],
            [0, 1, 1]], dtype=torch.int32)
    """
    n_rows, n_cols = _extents(n_rows, n_cols)
    below = _count("below", below)
    above = below if above is None else _count("above", above)
    return torch.ones(n_rows, n_cols, dtype=torch.bool, device=device).tril(above).triu(-below)


def diagonal_groups(n_rows: int, n_cols: int | None = None, *, groups: int, device: Place = None) -> Tensor:
    """Rows and columns in ``groups`` runs, of which the g-th meet: ``maskmm.patterns.diagonal_groups``.

    >>> diagonal_groups(2, 4, groups=2).int()
    tensor([[1, 1, 0, 0],
            [0, 0, 1, 1]], dtype=torch.int32)
    """
    n_rows, n_cols = _extents(n_rows, n_cols)
    groups = _count("groups", groups, minimum=1)
    row_group = torch.arange(n_rows, device=device) * groups // max(n_rows, 1)
    col_group = torch.arange(n_cols, device=device) * groups // max(n_cols, 1)
    return row_group[:, None] == col_group


def from_sequence_lengths(lengths: Tensor, size: int, block_size: int = 64) -> Tensor:
    """Which blocks of padded sequences hold anything, on the device of the lengths, whose values the host never reads:
    ``mask[..., i] = i * block_size < lengths[...]``.

    Raises:
        TypeError: lengths that are no integers.

    >>> from_sequence_lengths(torch.tensor([100, 256, 0]), size=256).int()
    tensor([[1, 1, 0, 0],
            [1, 1, 1, 1],
            [0, 0, 0, 0]], dtype=torch.int32)
    """
    if not isinstance(lengths, Tensor):
        raise TypeError(f"lengths: expected a torch.Tensor, got {type(lengths).__name__}")
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise TypeError(f"lengths: expected integers, got {lengths.dtype}")
    size = _count("size", size)
    block_size = _count("block_size", block_size, minimum=1)
    starts = torch.arange(0, size, block_size, device=lengths.device)
    return starts < lengths[..., None]


def random(
    shape: int | tuple[int, ...],
    density: float,
    *,
    generator: torch.Generator | None = None,
    device: Place = None,
) -> Tensor:
    """Exactly ``round(density * size)`` blocks at random, each set of that size being equally likely.

    Args:
        shape: the shape of the mask.
        density: the share of blocks to keep, 0 to 1.
        generator: of torch's random numbers, on the device; torch's own where absent.
        device: where the mask is made.

    >>> int(random((8, 16), 0.25, generator=torch.Generator().manual_seed(1)).sum())
    32
    """
    if not 0 <= density <= 1:
        raise ValueError(f"density: expected 0 to 1, got {density}")
    extents = shape if isinstance(shape, tuple) else (shape,)
    n_blocks = math.prod(_count("shape", extent) for extent in extents)
    order = torch.randperm(n_blocks, generator=generator, device=device)
    return (order < round(density * n_blocks)).reshape(extents)
