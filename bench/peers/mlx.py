"""MLX's own block_masked_mm on its CPU back end (float32; blocks 32 and 64).

It zeroes the dead blocks of copies and multiplies everything on a BLAS. That of its Linux wheel is a reference BLAS, 20
times slower than MKL; where MKL is installed it is put in its place, so that MLX is measured at its best.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from peers.base import Array, Missing, Peer, Problem, Run, import_module
from peers.mkl import open_mkl


class Mlx(Peer):
    name = "mlx"
    title = "MLX block_masked_mm"
    kind = "masked"
    skips = False
    settle_seconds = 0.01

    def __init__(self) -> None:
        try:
            open_mkl(ctypes.RTLD_GLOBAL)  # global symbols come before those of the libraries of a wheel
            self.blas = "MKL"
        except Missing:
            self.blas = "as in its wheel"
        self.mx = import_module("mlx.core")

    def describe(self) -> dict[str, str]:
        return {"version": self.mx.__version__, "blas": self.blas}

    def takes(self, problem: Problem) -> bool:
        block_m, block_n, block_k = problem.block
        return problem.dtype == "float32" and block_m in (32, 64) and block_m == block_n == block_k

    def prepare(self, problem: Problem) -> Run | None:
        masks = problem.mask_out, problem.mask_lhs, problem.mask_rhs
        if not self.takes(problem) or all(mask is None for mask in masks):
            return None
        mx, block = self.mx, problem.block[0]
        arrays = (mx.array(problem.a), mx.array(problem.b))
        arguments = (*arrays, block, *(None if mask is None else mx.array(mask) for mask in masks))
        results: list[Any] = [None]

        def call() -> None:
            with mx.stream(mx.cpu):
                results[0] = mx.block_masked_mm(*arguments)
                mx.eval(results[0])

        def result() -> Array:
            return np.array(results[0])

        return Run(call, result)


def create(threads: int) -> Peer:
    return Mlx()
