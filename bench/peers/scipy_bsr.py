"""SciPy's block-sparse matrix (BSR) times dense matrix: one thread. Conversion to BSR is not timed.

A masked right operand runs as out^T = b^T a^T.
"""

from __future__ import annotations

from typing import Any

from peers.base import Array, BsrPeer, Peer, Problem, Run, import_module, sparse_times_dense


class ScipyBsr(BsrPeer):
    name = "scipy_bsr"
    title = "SciPy BSR"
    square_blocks = False

    def __init__(self) -> None:
        self.sparse = import_module("scipy.sparse")

    def describe(self) -> dict[str, str]:
        return {"version": import_module("scipy").__version__, "threads": "1"}

    def prepare(self, problem: Problem) -> Run | None:
        if not self.takes(problem):
            return None
        turned = sparse_times_dense(problem)
        bsr = self.sparse.bsr_matrix(turned.left, blocksize=turned.block)
        results: list[Any] = [None]

        def call() -> None:
            results[0] = bsr @ turned.right

        def result() -> Array:
            product: Array = results[0]
            return product.T if turned.transposed else product

        return Run(call, result)


def create(threads: int) -> Peer:
    return ScipyBsr()
