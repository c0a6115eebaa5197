"""What a peer offers to the benchmark, and what several peers need."""

from __future__ import annotations

import abc
import ctypes
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy.typing as npt

Array = npt.NDArray[Any]


class Missing(Exception):
    """A peer that cannot run here; the message is the reason."""


@dataclass(frozen=True)
class Problem:
    """One product: the operands as NumPy views in the layout that is measured, and the masks that are there.

    Masks have one value for each block, as in ``maskmm.block_masked_mm``. ``out`` is where a library that can write to
    a given array puts its result: all peers and all cases with the same operands share it.
    """

    a: Array
    b: Array
    out: Array
    block: tuple[int, int, int]
    mask_out: Array | None = None
    mask_lhs: Array | None = None
    mask_rhs: Array | None = None

    @property
    def dtype(self) -> str:
        return str(self.a.dtype)

    def dense(self) -> Problem:
        """The same operands without masks."""
        return Problem(self.a, self.b, self.out, self.block)


@dataclass(frozen=True)
class Run:
    """A product that is ready to be timed. It may hold addresses: the problem that it is made from must outlive it."""

    call: Callable[[], object]  # multiplies; finished when it returns
    result: Callable[[], Array]  # the result of the last call


class Peer(abc.ABC):
    """A library under measurement."""

    name: ClassVar[str]
    title: ClassVar[str]
    kind: ClassVar[str]  # "own", "dense" (ignores masks, the denominator of x) or "masked"
    skips: ClassVar[bool] = True  # its time follows the live blocks
    settle_seconds: ClassVar[float] = 0.005  # how long its threads go on spinning after a call

    @abc.abstractmethod
    def describe(self) -> dict[str, str]:
        """Version, kernels and whatever else identifies what ran."""

    def takes(self, problem: Problem) -> bool:
        """False where `prepare` is known to give None."""
        return True

    @abc.abstractmethod
    def prepare(self, problem: Problem) -> Run | None:
        """The problem ready to run, or None where this library has no such product."""


def distribution_files(distribution: str) -> list[Path]:
    """The files that a PyPI distribution brought."""
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        raise Missing(f"{distribution} is not installed") from None
    return [Path(str(file.locate())) for file in files]


def find_library(distribution: str, name: str) -> Path:
    """The file of a shared library that a PyPI distribution brought."""
    for path in distribution_files(distribution):
        if path.name == name and path.exists():
            return path.resolve()
    raise Missing(f"{distribution} has no {name}")


def load_library(path: Path, mode: int = ctypes.DEFAULT_MODE) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path), mode)
    except OSError as error:
        raise Missing(f"{path.name} does not load: {error}") from None


def import_module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:  # a broken installation raises more than ImportError
        raise Missing(f"{name} does not import: {error}") from None


def pointer(array: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def blas_layout(matrix: Array) -> tuple[bool, int] | None:
    """(transposed, leading dimension) of a matrix, or of each matrix of a batch, for a row-major BLAS call."""
    rows, columns = (stride // matrix.itemsize for stride in matrix.strides[-2:])
    if columns == 1:
        return False, rows
    if rows == 1:
        return True, columns
    return None


@dataclass(frozen=True)
class SparseTimesDense:
    """A problem with one masked operand, turned so that the masked one is on the left."""

    left: Array  # zeros in the dead blocks; scaled where the mask is not bool
    right: Array
    block: tuple[int, int]  # of left
    transposed: bool  # out^T = b^T a^T: the masked operand was on the right


class BsrPeer(Peer):
    """A library that multiplies a block-sparse matrix (BSR) by a dense one."""

    kind = "masked"
    square_blocks: ClassVar[bool] = True  # takes no others

    def takes(self, problem: Problem) -> bool:
        if problem.a.ndim != 2 or problem.mask_out is not None or problem.dtype not in ("float32", "float64"):
            return False
        if (problem.mask_lhs is None) == (problem.mask_rhs is None):
            return False
        block, (rows, inner), columns = problem.block, problem.a.shape, problem.b.shape[1]
        outer, size = (block[0], rows) if problem.mask_lhs is not None else (block[1], columns)
        divides = size % outer == 0 and inner % block[2] == 0
        return divides and (outer == block[2] or not self.square_blocks)


def sparse_times_dense(problem: Problem) -> SparseTimesDense:
    """The problem as a `BsrPeer` takes it."""
    block_m, block_n, block_k = problem.block
    if problem.mask_lhs is not None:
        block = block_m, block_k
        return SparseTimesDense(
            _masked(problem.a, problem.mask_lhs, block), problem.b, block, transposed=False
        )
    assert problem.mask_rhs is not None
    left = _masked(problem.b, problem.mask_rhs, (block_k, block_n)).T
    return SparseTimesDense(left, problem.a.T, (block_n, block_k), transposed=True)


def _masked(matrix: Array, mask: Array, block: tuple[int, int]) -> Array:
    product: Array = matrix * spread(mask, block, matrix.shape)
    return product


def spread(mask: Array, block: tuple[int, int], shape: tuple[int, ...]) -> Array:
    """The mask with one value for each element of a matrix (or of each matrix of a batch) of that shape."""
    rows, columns = block
    return mask.repeat(rows, -2).repeat(columns, -1)[..., : shape[-2], : shape[-1]]
