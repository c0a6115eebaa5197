"""What is measured: cases, and the named suites of them.

A suite is a function that gives its cases; `SUITES` names them. Cases of one group are timed side by side, round by
round, and share their operands and the timings of the dense libraries.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import math
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from maskmm import patterns
from peers.base import Array, Problem

Block = tuple[int, int, int]
DENSITIES = (1.0, 0.5, 0.25, 0.1, 0.05)
SIDES = ("lhs", "rhs", "out")


@dataclass(frozen=True)
class Case:
    """One masked product. ``pattern`` is a shape and, where only one mask is there, the mask that has it."""

    suite: str
    dtype: str
    m: int
    n: int
    k: int
    block: Block
    pattern: (
        str  # none, both, lhs, rhs, out (random blocks), or causal_, band_, diagonal_ and one of the three
    )
    density: float  # share of live triples that is asked for
    batch: int = 0  # 0: matrices
    layout: str = "NN"  # T: the operand is the transpose of a row-major matrix
    mask_type: str = "bool"  # bool, zeros_ones (floats), scales (floats)
    reference: str = ""  # name of a case of the same group that the time is compared with
    group_tag: str = ""

    @property
    def name(self) -> str:
        shape = f"{self.m}x{self.n}x{self.k}"
        shape = f"{self.batch} of {shape}" if self.batch else shape
        square = self.block[0] == self.block[1] == self.block[2]
        block = f"b{self.block[0]}" if square else "b" + "x".join(map(str, self.block))
        words = [self.dtype, shape, block, self.pattern, f"d={self.density:g}"]
        words += [self.layout] if self.layout != "NN" else []
        words += [self.mask_type] if self.mask_type != "bool" else []
        return " ".join(words)

    @property
    def group(self) -> str:
        return self.group_tag or f"{self.suite} {self.dtype} {self.m}x{self.n}x{self.k} b{self.block[0]}"

    @property
    def dense_key(self) -> str:
        """Cases with the same key have the same dense product."""
        return f"{self.dtype} {self.batch} {self.m} {self.n} {self.k} {self.layout}"

    @property
    def multiply_adds(self) -> int:
        return max(self.batch, 1) * self.m * self.n * self.k


def build(case: Case, operands: dict[str, tuple[Array, Array, Array]]) -> Problem:
    """The case's arrays. Operands and results of equal `Case.dense_key` are made once and kept in ``operands``."""
    if case.dense_key not in operands:
        rng = np.random.default_rng(zlib.crc32(case.dense_key.encode()))
        shapes = ((case.m, case.k), (case.k, case.n))
        a, b = (_operand(rng, case, *pair) for pair in zip(shapes, case.layout, strict=True))
        operands[case.dense_key] = a, b, np.zeros((*a.shape[:-1], b.shape[-1]), a.dtype)
    return Problem(*operands[case.dense_key], case.block, *_masks(case))


def _operand(rng: np.random.Generator, case: Case, shape: tuple[int, int], layout: str) -> Array:
    stored = shape if layout == "N" else shape[::-1]
    lead = (case.batch,) if case.batch else ()
    values = rng.standard_normal(lead + stored, np.float32).astype(_numpy_type(case.dtype))
    return values if layout == "N" else values.swapaxes(-1, -2)


def _numpy_type(name: str) -> np.dtype[Any]:
    return np.dtype(importlib.import_module("ml_dtypes").bfloat16 if name == "bfloat16" else name)


def _masks(case: Case) -> tuple[Array | None, Array | None, Array | None]:
    """mask_out, mask_lhs, mask_rhs."""
    block_m, block_n, block_k = case.block
    rows, columns, inner = (
        math.ceil(case.m / block_m),
        math.ceil(case.n / block_n),
        math.ceil(case.k / block_k),
    )
    lead = (case.batch,) if case.batch else ()
    extents = {"out": (rows, columns), "lhs": (rows, inner), "rhs": (inner, columns)}
    kind, _, side = case.pattern.rpartition("_")
    wanted = {"both": ("lhs", "rhs"), "none": ()}.get(side, (side,))
    seeds = {"out": 1, "lhs": 2, "rhs": 3}
    made: dict[str, Array] = {}
    for name in wanted:
        if kind == "causal":
            mask: Array = patterns.causal(*extents[name])
        elif kind == "band":
            reach = max(0, round((case.density * extents[name][1] - 1) / 2))
            mask = patterns.band(*extents[name], below=reach)
        elif kind == "diagonal":
            mask = patterns.diagonal_groups(*extents[name], groups=round(1 / case.density))
        else:
            density = math.sqrt(case.density) if side == "both" else case.density
            mask = patterns.random(lead + extents[name], density, seed=seeds[name])
        if case.mask_type != "bool":
            mask = mask.astype(_numpy_type("float64" if case.dtype == "float64" else "float32"))
        if case.mask_type == "scales":
            rng = np.random.default_rng(seeds[name] + 10)
            mask = mask * rng.uniform(0.5, 2.0, mask.shape).astype(mask.dtype)
        made[name] = mask
    return made.get("out"), made.get("lhs"), made.get("rhs")


def live_fraction(problem: Problem) -> float:
    """Live triples (bi, bj, bk) / all triples."""
    block_m, block_n, block_k = problem.block
    (m, k), n = problem.a.shape[-2:], problem.b.shape[-1]
    rows, columns, inner = math.ceil(m / block_m), math.ceil(n / block_n), math.ceil(k / block_k)

    def ones(mask: Array | None, *extents: int) -> Array:
        return np.ones(extents) if mask is None else (mask != 0).astype(np.float64)

    lhs, rhs = ones(problem.mask_lhs, rows, inner), ones(problem.mask_rhs, inner, columns)
    return float(((lhs @ rhs) * ones(problem.mask_out, rows, columns)).mean() / inner)


def _square(suite: str, dtypes: Iterable[str], sizes: Iterable[int], blocks: Iterable[int]) -> Iterator[Case]:
    for dtype, size, block in itertools.product(dtypes, sizes, blocks):
        make = functools.partial(Case, suite, dtype, size, size, size, (block,) * 3)
        for pattern, density in itertools.product(("lhs", "rhs", "both", "out"), DENSITIES):
            yield make(pattern, density)
        for side in ("lhs", "out"):
            yield make(f"causal_{side}", 0.5)
            for density in DENSITIES[1:]:
                yield make(f"band_{side}", density)
            yield make(f"diagonal_{side}", 0.125)


def quick() -> Iterator[Case]:
    """float32, 2048^3, blocks of 64 and 32, one random mask."""
    for block, pattern, density in itertools.product((64, 32), SIDES, DENSITIES[:3]):
        yield Case("quick", "float32", 2048, 2048, 2048, (block,) * 3, pattern, density)


def square() -> Iterator[Case]:
    """float32 and float64, 2048^3 and 4096^3, blocks of 64 and 32, every pattern and density."""
    return _square("square", ("float32", "float64"), (2048, 4096), (64, 32))


def types() -> Iterator[Case]:
    """16-bit types beside the float32 of the same masks."""
    for size, block, pattern, density in itertools.product((2048, 4096), (64, 32), SIDES, DENSITIES):
        base = Case("types", "float32", size, size, size, (block,) * 3, pattern, density)
        base = replace(base, group_tag=base.group)
        yield from (
            base,
            *(replace(base, dtype=name, reference=base.name) for name in ("bfloat16", "float16")),
        )


def layouts() -> Iterator[Case]:
    """Transposed operands beside row-major ones."""
    for dtype, pattern, density in itertools.product(("float32", "float64"), SIDES, (0.5, 0.25, 0.1)):
        base = Case("layouts", dtype, 2048, 2048, 2048, (64,) * 3, pattern, density)
        yield from (
            base,
            *(replace(base, layout=layout, reference=base.name) for layout in ("NT", "TN", "TT")),
        )


def float_masks() -> Iterator[Case]:
    """Float masks, of zeros and ones and of other values, beside bool masks."""
    for pattern, density in itertools.product(("lhs", "rhs", "both", "out"), (1.0, 0.5, 0.25, 0.1)):
        base = Case("float_masks", "float32", 2048, 2048, 2048, (64,) * 3, pattern, density)
        yield from (
            base,
            *(replace(base, mask_type=kind, reference=base.name) for kind in ("zeros_ones", "scales")),
        )


def blocks() -> Iterator[Case]:
    """Other blocks than 64 and 32, rectangular ones included."""
    sizes = ((16,) * 3, (128,) * 3, (256,) * 3, (32, 128, 64), (128, 32, 64), (64, 64, 16))
    for block, pattern, density in itertools.product(sizes, SIDES, DENSITIES):
        yield Case(
            "blocks", "float32", 2048, 2048, 2048, block, pattern, density, group_tag=f"blocks {block}"
        )


def ragged() -> Iterator[Case]:
    """Sizes that the block does not divide, beside the next multiples."""
    for pattern, density in itertools.product(SIDES, (1.0, 0.5, 0.25, 0.1)):
        base = Case("ragged", "float32", 2048, 2048, 2112, (64,) * 3, pattern, density, group_tag="ragged")
        yield from (base, replace(base, m=2047, n=1999, k=2081, reference=base.name))


def small_m() -> Iterator[Case]:
    """A few rows times a large masked matrix: bound by reading its live blocks."""
    for m, density in itertools.product((1, 4, 16, 64), DENSITIES):
        yield Case("small_m", "float32", m, 4096, 4096, (64,) * 3, "rhs", density)


def batches() -> Iterator[Case]:
    """Many small products, each with masks of its own."""
    for (batch, size), pattern, density in itertools.product(
        ((512, 128), (64, 512)), SIDES, (1.0, 0.5, 0.25, 0.1)
    ):
        block = 32 if size == 128 else 64
        yield Case("batches", "float32", size, size, size, (block,) * 3, pattern, density, batch=batch)


def long_k() -> Iterator[Case]:
    """A small result summed over a long K."""
    for pattern, density in itertools.product(("lhs", "rhs", "both"), (1.0, 0.5, 0.25, 0.1)):
        yield Case("long_k", "float32", 256, 256, 65536, (64,) * 3, pattern, density)


def tiny() -> Iterator[Case]:
    """The overhead of a whole call."""
    for size, pattern in itertools.product((16, 32, 64, 128), SIDES):
        yield Case("tiny", "float32", size, size, size, (16,) * 3, pattern, 1.0, group_tag="tiny")


def threads() -> Iterator[Case]:
    """To be run with several --threads: the report divides the times."""
    for size in (2048, 4096):
        for pattern, density in (("lhs", 1.0), ("lhs", 0.1), ("rhs", 0.1), ("out", 0.1), ("causal_lhs", 0.5)):
            yield Case("threads", "float32", size, size, size, (64,) * 3, pattern, density)


PARTS = (square, types, layouts, float_masks, blocks, ragged, small_m, batches, long_k, tiny)


def cpu() -> Iterator[Case]:
    """All of the suites for one thread count."""
    return itertools.chain.from_iterable(part() for part in PARTS)


SUITES = {suite.__name__: suite for suite in (quick, cpu, *PARTS, threads)}


def select(
    suites: Iterable[str], pattern: str = "", sizes: Iterable[int] = (), dtypes: Iterable[str] = ()
) -> list[Case]:
    """The cases of the suites whose name matches the regular expression, one of the sizes of N, and one of the types.

    What a kept case is compared with is kept too.
    """
    cases = list(dict.fromkeys(itertools.chain.from_iterable(SUITES[suite]() for suite in suites)))
    sizes, dtypes = tuple(sizes), tuple(dtypes)
    kept = [
        case
        for case in cases
        if re.search(pattern, case.name)
        and (not sizes or case.n in sizes)
        and (not dtypes or case.dtype in dtypes)
    ]
    wanted = {(case.group, case.reference) for case in kept}
    return [case for case in cases if case in kept or (case.group, case.name) in wanted]
