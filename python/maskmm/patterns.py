"""Block masks of common shapes, as boolean NumPy arrays: one value per block, True where the block is kept.

Every function counts in *blocks*; those that start from sequence lengths in elements take the block size. The
results fit ``mask_out``, ``mask_lhs`` and ``mask_rhs`` alike; add a batch axis or combine them with ``&`` and
``|`` as needed.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

__all__ = ["band", "causal", "diagonal_groups", "from_sequence_lengths", "packed_sequences", "random"]

BoolArray = npt.NDArray[np.bool_]


def causal(n_rows: int, n_cols: int | None = None) -> BoolArray:
    """Blocks on and below the diagonal: ``mask[i, j] = j <= i + (n_cols - n_rows)``.

    With ``n_cols > n_rows`` the diagonal ends in the last row and column, as for queries that continue a
    longer row of keys.

    Args:
        n_rows: blocks along the rows.
        n_cols: blocks along the columns; ``n_rows`` where absent.

    Returns:
        A boolean array of the shape ``(n_rows, n_cols)``.

    Raises:
        ValueError: a negative count.

    >>> causal(3).astype(int)
    array([[1, 0, 0],
           [1, 1, 0],
           [1, 1, 1]])
    """
    n_rows, n_cols = _extents(n_rows, n_cols)
    return np.tri(n_rows, n_cols, n_cols - n_rows, dtype=np.bool_)


def band(n_rows: int, n_cols: int | None = None, *, below: int = 1, above: int | None = None) -> BoolArray:
    """Blocks near the diagonal: ``mask[i, j] = -below <= j - i <= above``.

    Args:
        n_rows: blocks along the rows.
        n_cols: blocks along the columns; ``n_rows`` where absent.
        below: blocks kept below the diagonal.
        above: blocks kept above it; ``below`` where absent.

    Returns:
        A boolean array of the shape ``(n_rows, n_cols)``.

    Raises:
        ValueError: a negative count.

    >>> band(4, below=1, above=0).astype(int)
    array([[1, 0, 0, 0],
           [1, 1, 0, 0],
           [0, 1, 1, 0],
           [0, 0, 1, 1]])
    """
    n_rows, n_cols = _extents(n_rows, n_cols)
    below = _count("below", below)
    above = below if above is None else _count("above", above)
    distance = np.arange(n_cols)[None, :] - np.arange(n_rows)[:, None]
    return (distance >= -below) & (distance <= above)


def diagonal_groups(n_rows: int, n_cols: int | None = None, *, groups: int) -> BoolArray:
    """A block-diagonal mask: rows and columns are cut into ``groups`` runs, and run g of the rows keeps run g
    of the columns. Where the counts do not divide, the lengths of the runs differ by at most one.

    Args:
        n_rows: blocks along the rows.
        n_cols: blocks along the columns; ``n_rows`` where absent.
        groups: number of runs, at least 1.

    Returns:
        A boolean array of the shape ``(n_rows, n_cols)``.

    Raises:
        ValueError: a negative count, or no group.

    >>> diagonal_groups(4, 6, groups=2).astype(int)
    array([[1, 1, 1, 0, 0, 0],
           [1, 1, 1, 0, 0, 0],
           [0, 0, 0, 1, 1, 1],
           [0, 0, 0, 1, 1, 1]])
    """
    n_rows, n_cols = _extents(n_rows, n_cols)
    groups = _count("groups", groups, minimum=1)
    row_group = np.arange(n_rows) * groups // max(n_rows, 1)
    col_group = np.arange(n_cols) * groups // max(n_cols, 1)
    same: BoolArray = row_group[:, None] == col_group[None, :]
    return same


def from_sequence_lengths(lengths: Iterable[int], size: int, block_size: int = 64) -> BoolArray:
    """Which blocks of padded sequences hold anything: ``mask[s, i] = i * block_size < lengths[s]``.

    Sequence s fills the first ``lengths[s]`` of ``size`` positions; the rest is padding. Of the last block
    that is kept, some positions may be padding still. For activations of the shape ``(batch, size, width)``
    as the left operand, ``mask[:, :, None]`` is a ``mask_lhs`` or ``mask_out`` that leaves the padded rows
    out; the scores of attention, Q K^T, take ``mask[:, :, None] & mask[:, None, :]`` as ``mask_out``.

    Args:
        lengths: elements of each sequence, 0 to ``size``.
        size: elements of a padded sequence.
        block_size: elements of a block.

    Returns:
        A boolean array of the shape ``(len(lengths), ceil(size / block_size))``.

    Raises:
        ValueError: a length outside 0 to ``size``, or a block size below 1.

    >>> from_sequence_lengths([100, 256, 0], size=256, block_size=64).astype(int)
    array([[1, 1, 0, 0],
           [1, 1, 1, 1],
           [0, 0, 0, 0]])
    """
    size = _count("size", size)
    block_size = _count("block_size", block_size, minimum=1)
    counts = np.array([_count("lengths", length) for length in lengths], dtype=np.int64)
    if counts.size and counts.max() > size:
        raise ValueError(f"lengths: expected at most size = {size}, got {counts.max()}")
    starts = np.arange(-(-size // block_size)) * block_size
    return starts[None, :] < counts[:, None]


def packed_sequences(lengths: Iterable[int], size: int | None = None, block_size: int = 64) -> BoolArray:
    """The block-diagonal attention of sequences packed one after another into one row of ``size`` positions.

    ``mask[i, j]`` is True where some sequence has a position in block i and one in block j. Positions after
    the last sequence are padding. A block at a border holds positions of several sequences; which pairs of
    them belong together is for the caller to say, element by element.

    Args:
        lengths: elements of each sequence, in order.
        size: elements of the packed row; the sum of the lengths where absent.
        block_size: elements of a block.

    Returns:
        A boolean array of the shape ``(ceil(size / block_size), ceil(size / block_size))``.

    Raises:
        ValueError: a negative length, lengths that do not fit into ``size``, or a block size below 1.

    >>> packed_sequences([128, 100, 20], size=320, block_size=64).astype(int)
    array([[1, 1, 0, 0, 0],
           [1, 1, 0, 0, 0],
           [0, 0, 1, 1, 0],
           [0, 0, 1, 1, 0],
           [0, 0, 0, 0, 0]])
    """
    block_size = _count("block_size", block_size, minimum=1)
    counts = [_count("lengths", length) for length in lengths]
    size = sum(counts) if size is None else _count("size", size)
    if sum(counts) > size:
        raise ValueError(f"lengths: expected a sum of at most size = {size}, got {sum(counts)}")
    n_blocks = -(-size // block_size)
    mask = np.zeros((n_blocks, n_blocks), dtype=np.bool_)
    start = 0
    for count in counts:
        if count:
            blocks = slice(start // block_size, (start + count - 1) // block_size + 1)
            mask[blocks, blocks] = True
        start += count
    return mask


def random(
    shape: int | tuple[int, ...], density: float, seed: int | np.random.Generator | None = 0
) -> BoolArray:
    """Blocks kept at random: exactly ``round(density * size)`` of them, each set of that size being equally
    likely.

    Args:
        shape: the shape of the mask.
        density: the share of blocks to keep, 0 to 1.
        seed: a seed or a generator of NumPy's; the same seed gives the same mask. None draws a new one.

    Returns:
        A boolean array of the shape ``shape``.

    Raises:
        ValueError: a density outside 0 to 1, or a negative extent.

    >>> int(random((8, 16), density=0.25, seed=1).sum())
    32
    """
    if not 0 <= density <= 1:
        raise ValueError(f"density: expected 0 to 1, got {density}")
    extents = shape if isinstance(shape, tuple) else (shape,)
    extents = tuple(_count("shape", extent) for extent in extents)
    mask = np.zeros(math.prod(extents), dtype=np.bool_)
    mask[: round(density * mask.size)] = True
    np.random.default_rng(seed).shuffle(mask)
    return mask.reshape(extents)


def _extents(n_rows: int, n_cols: int | None) -> tuple[int, int]:
    n_rows = _count("n_rows", n_rows)
    return n_rows, n_rows if n_cols is None else _count("n_cols", n_cols)


def _count(name: str, value: int, minimum: int = 0) -> int:
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an int, got {type(value).__name__}") from None
    if count < minimum:
        raise ValueError(f"{name}: expected at least {minimum}, got {count}")
    return count
