"""Products of .npy files: what ``maskmm run`` does. Files are memory maps, and the work is cut into slabs of
whole rows of blocks and batch elements, so that no file need fit into memory.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

import maskmm
from maskmm import _maskmm

Array = npt.NDArray[Any]

MAGIC = b"\x93NUMPY"
SLAB_WORK = 2**34  # multiply-adds of a slab: tenths of a second
SLAB_ROWS = 1024  # at least so many rows of a: every slab reads all of b that is live


class FileError(Exception):
    """A file that cannot be read or written. The message names it."""


@dataclass(frozen=True)
class Paths:
    """The files of a product; masks may be absent."""

    a: Path
    b: Path
    result: Path
    mask_out: Path | None = None
    mask_lhs: Path | None = None
    mask_rhs: Path | None = None


@dataclass(frozen=True)
class Report:
    """What was done."""

    shape: tuple[int, ...]
    dtype: str
    explanation: maskmm.Explanation


def multiply_files(
    paths: Paths,
    *,
    block_size: int | tuple[int, int, int] = 64,
    precision: Literal["ieee", "tf32"] = "ieee",
    bfloat16: bool = False,
    progress: Callable[[float], None] = lambda share: None,
) -> Report:
    """Writes ``block_masked_mm`` of the files to ``paths.result``, which appears when it is complete and not
    before.

    Args:
        paths: .npy files; every layout that NumPy writes.
        block_size: as of ``block_masked_mm``.
        precision: as of ``block_masked_mm``.
        bfloat16: take elements that are two bytes without a type for bfloat16, as NumPy stores
            ml_dtypes.bfloat16.
        progress: called with the share of the work that is done, 0 to 1, before and after each slab.

    Returns:
        The shape and type of the result, and how it was computed.

    Raises:
        FileError: a file that cannot be read or written, or is not .npy.
        ValueError, TypeError, MemoryError: as ``block_masked_mm``.
    """
    a = _open(paths.a, bfloat16)
    b = _open(paths.b, bfloat16)
    masks = _Masks(
        _open_mask(paths.mask_out, bfloat16),
        _open_mask(paths.mask_lhs, bfloat16),
        _open_mask(paths.mask_rhs, bfloat16),
    )
    shape, dtype = _maskmm.result_type(a, b, block_size, *masks, None, None, precision)
    explanation = maskmm.explain(a, b, block_size, *masks, precision=precision)
    with _writing(paths.result, shape, dtype) as result:
        done = 0
        progress(0.0)
        for slab in _slabs(a, b, result, masks, block_size):
            maskmm.block_masked_mm(
                slab.a, slab.b, block_size, *slab.masks, out=slab.result, precision=precision
            )
            done += slab.result.size
            progress(done / max(1, result.size))
    return Report(shape, dtype, explanation)


class _Masks(NamedTuple):
    out: Array | None
    lhs: Array | None
    rhs: Array | None


class _Slab(NamedTuple):
    a: Array
    b: Array
    masks: _Masks
    result: Array


def _slabs(
    a: Array, b: Array, result: Array, masks: _Masks, block_size: int | tuple[int, int, int]
) -> Iterator[_Slab]:
    block_rows = block_size[0] if isinstance(block_size, tuple) else block_size
    has_rows, has_cols = int(a.ndim > 1), int(b.ndim > 1)
    batch = result.shape[: result.ndim - has_rows - has_cols]
    rows = a.shape[-2] if has_rows else 1
    work_of_row = a.shape[-1] * (b.shape[-1] if has_cols else 1)
    step = -(-SLAB_ROWS // block_rows) * block_rows
    out_row_axis = 1 + has_cols if has_rows else None
    lhs_row_axis = 2 if has_rows else None
    for *indices, chosen in _cuts((*batch, rows), step, work_of_row):
        blocks = slice(chosen.start // block_rows, -(-chosen.stop // block_rows))
        yield _Slab(
            _part(a, indices, 1 + has_rows, lhs_row_axis, chosen),
            _part(b, indices, 1 + has_cols, None, chosen),
            _Masks(
                _mask_part(masks.out, indices, has_rows + has_cols, out_row_axis, blocks),
                _mask_part(masks.lhs, indices, has_rows + 1, lhs_row_axis, blocks),
                _mask_part(masks.rhs, indices, 1 + has_cols, None, blocks),
            ),
            _part(result, indices, has_rows + has_cols, out_row_axis, chosen),
        )


def _cuts(extents: tuple[int, ...], step: int, work: int) -> Iterator[list[slice]]:
    """Cuts a box of these extents into slabs of about SLAB_WORK, given the work of one index of the last
    axis, which is cut at multiples of ``step`` only. Yields a slice for each axis.
    """
    first, *rest = extents
    unit = step if not rest else 1
    each = max(1, work * math.prod(rest))  # work of one index of the first axis
    count = max(unit, SLAB_WORK // each // unit * unit)
    for start in range(0, first, count):
        chosen = slice(start, min(start + count, first))
        if count == 1 and rest:
            for others in _cuts(tuple(rest), step, work):
                yield [chosen, *others]
        else:
            yield [chosen, *(slice(0, extent) for extent in rest)]


def _part(array: Array, batch: list[slice], core_axes: int, row_axis: int | None, rows: slice) -> Array:
    """The part of an argument for some batch elements and, along ``row_axis`` from the right, some rows. Axes
    of size 1 are broadcast: they stay.
    """
    index: list[Any] = [slice(None)] * array.ndim
    own_batch = max(0, array.ndim - core_axes)
    for axis, chosen in enumerate(batch[len(batch) - own_batch :]):
        if array.shape[axis] != 1:
            index[axis] = chosen
    if row_axis is not None and row_axis <= array.ndim and array.shape[-row_axis] != 1:
        index[array.ndim - row_axis] = rows
    part: Array = array[(*index, ...)]  # the dots keep a 0-D array an array
    return part


def _mask_part(
    mask: Array | None, batch: list[slice], core_axes: int, row_axis: int | None, rows: slice
) -> Array | None:
    return None if mask is None else _part(mask, batch, core_axes, row_axis, rows)


def _open(path: Path, bfloat16: bool) -> Array:
    try:
        with path.open("rb") as file:
            is_npy = file.read(len(MAGIC)) == MAGIC
        array = np.asarray(np.lib.format.open_memmap(path, mode="r")) if is_npy else None
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from error
    except Exception as error:  # a damaged header is parsed as Python, and raises whatever that gives
        raise FileError(f"{path}: cannot be mapped: {error}") from error
    if array is None:
        raise FileError(f"{path}: not a .npy file")
    if array.dtype.kind != "V" or array.dtype.names is not None or array.dtype.itemsize != 2:
        return array
    if not bfloat16:
        raise FileError(
            f"{path}: elements of two bytes without a type; if they are bfloat16, pass --bfloat16"
        )
    return array.view(_bfloat16(path))


def _open_mask(path: Path | None, bfloat16: bool) -> Array | None:
    return None if path is None else _open(path, bfloat16)


def _bfloat16(path: Path) -> np.dtype[Any]:
    try:
        import ml_dtypes
    except ImportError:
        raise FileError(f"{path}: bfloat16 needs the package ml_dtypes: pip install ml_dtypes") from None
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype


@contextmanager
def _writing(path: Path, shape: tuple[int, ...], dtype: str) -> Iterator[Array]:
    """A new .npy file to be filled in, under another name until all went well."""
    if path.is_dir():
        raise FileError(f"{path}: Is a directory")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    stored = np.dtype("V2") if dtype == "bfloat16" else np.dtype(dtype)
    try:
        try:
            file = np.lib.format.open_memmap(partial, mode="w+", dtype=stored, shape=shape)
            _reserve(partial)
        except OSError as error:
            raise FileError(f"{path}: {error.strerror or error}") from error
        result = np.asarray(file)
        yield result.view(_bfloat16(path)) if dtype == "bfloat16" else result
        file.flush()
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _reserve(path: Path) -> None:
    """Takes the disk space now: where it ends in the middle of a mapped file, the process is killed."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
