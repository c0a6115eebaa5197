"""A row for each front end and back end. All cases run through all rows (test_cases.py).

A row is a way to make a call and get a NumPy array. Rows with `isa` set run in a process of their own, since MASKMM_ISA
is read once; cases are built there by name. To add a front or a back end, add a row to `adapters`.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import numpy as np

import gpu_arrays
import maskmm
from case_builders import Call
from cases import build
from oracle import Array

# What a machine that has the first can also run.
X86 = ("amx_bf16", "avx512_bf16", "avx512", "avx2", "portable")
ISAS = {isa: X86[index:] for index, isa in enumerate(X86)} | {"neon": ("neon", "portable")}
FLUSHING = ("amx_bf16", "avx512_bf16")  # products of bfloat16 lose subnormal operands and sums
THREADS = (1, 2, 5)


@dataclass
class Observation:
    """What one case gave: its result, and whatever else must hold, already compared where it ran."""

    result: Array
    live_fraction: float
    isa: str


@dataclass
class Adapter:
    name: str
    multiply: Callable[[Call], Array]
    isa: str | None = None
    _worker: ProcessPoolExecutor | None = None

    def observe(self, name: str) -> Observation:
        """Runs the case of that name; raises AssertionError for what needs no oracle to be wrong."""
        if self.isa is None:
            return observe(self.multiply, build(name))
        observation: Observation = self.apply(_observe_by_name, self.multiply, name)
        return observation

    def apply(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """function(*arguments) in the process that runs this row; a crash there is an AssertionError here."""
        if self.isa is None:
            return function(*arguments)
        if self._worker is None:
            context = multiprocessing.get_context("spawn")
            self._worker = ProcessPoolExecutor(1, context, os.putenv, ("MASKMM_ISA", self.isa))
        try:
            return self._worker.submit(function, *arguments).result()
        except BrokenProcessPool:
            self._worker = None
            raise AssertionError(f"the process crashed in {function.__name__}{arguments}") from None


def multiply_numpy(call: Call) -> Array:
    return maskmm.block_masked_mm(call.a, call.b, call.block_size, *call.masks(), out=call.out)


def isas() -> tuple[str, ...]:
    """What this processor can run, best first."""
    return ISAS.get(maskmm.cpu_isa(), (maskmm.cpu_isa(),))


def adapters() -> list[Adapter]:
    rows = [Adapter("numpy", multiply_numpy)]
    rows += [Adapter(f"numpy:{isa}", multiply_numpy, isa) for isa in isas()[1:]]
    rows.append(Adapter("torch on the CPU", gpu_arrays.multiply_torch_on_cpu))
    rows += [Adapter(name, multiply) for name, multiply in gpu_arrays.rows().items()]
    return rows


def isolated_adapters() -> list[Adapter]:
    """Every row in a process of its own, which a test may crash."""
    return [Adapter(f"numpy:{isa}", multiply_numpy, isa) for isa in isas()]


def observe(multiply: Callable[[Call], Array], call: Call) -> Observation:
    inputs = [(owner(x), owner(x).tobytes()) for x in call.inputs()]
    memory = owner(call.out).copy(order="A") if call.out is not None else None
    result = multiply(call)
    for array, contents in inputs:
        assert array.tobytes() == contents, "an input changed"
    if call.out is not None and memory is not None:
        assert result is call.out, "out was not returned"
        _check_gaps(call.out, memory)

    result = result.copy()
    before = maskmm.num_threads()
    for threads in THREADS:
        maskmm.set_num_threads(threads)
        if call.out is None or threads > 1:
            out = np.full(result.shape, np.nan, result.dtype)
            again = multiply(Call(**{**vars(call), "out": out}))
        else:
            call.out[...] = np.nan
            again = multiply(call)
        assert again.tobytes() == result.tobytes(), f"other bits with {threads} threads and a poisoned out"
    maskmm.set_num_threads(before)
    explanation = maskmm.explain(call.a, call.b, call.block_size, *call.masks(), out=call.out)
    return Observation(result, explanation.live_fraction, explanation.isa)


def owner(x: Array) -> Array:
    """The array whose memory x looks into."""
    while isinstance(x.base, np.ndarray):
        x = x.base
    return x


def _check_gaps(out: Array, before: Array) -> None:
    """Only out's own elements may differ from what the memory held before."""
    after = owner(out).ravel(order="K").view(np.uint8)
    expected = before.ravel(order="K").view(np.uint8)
    offset = out.__array_interface__["data"][0] - owner(out).__array_interface__["data"][0]
    view = np.ndarray((*out.shape, out.itemsize), np.uint8, expected, offset, (*out.strides, 1))
    view[...] = np.ascontiguousarray(out).view(np.uint8).reshape(view.shape)
    assert np.array_equal(after, expected), "memory between the elements of out changed"


def _observe_by_name(multiply: Callable[[Call], Array], name: str) -> Observation:
    return observe(multiply, build(name))
