"""torch's block-sparse tensor (BSR) times dense tensor on the CPU. Conversion to BSR is not timed.

A masked right operand runs as out^T = b^T a^T.
"""

from __future__ import annotations

from typing import Any

from peers.base import Array, BsrPeer, Peer, Problem, Run, import_module, sparse_times_dense


class TorchBsr(BsrPeer):
    name = "torch_bsr"
    title = "torch BSR"
    settle_seconds = 0.02

    def __init__(self, threads: int) -> None:
        self.torch = import_module("torch")
        self.torch.set_num_threads(threads)

    def describe(self) -> dict[str, str]:
        return {"version": self.torch.__version__, "isa": self.torch.backends.cpu.get_cpu_capability()}

    def prepare(self, problem: Problem) -> Run | None:
        if not self.takes(problem):
            return None
        turned = sparse_times_dense(problem)
        bsr = self.torch.from_numpy(turned.left.copy()).to_sparse_bsr(turned.block)
        dense = self.torch.from_numpy(turned.right)
        results: list[Any] = [None]

        def call() -> None:
            results[0] = bsr @ dense

        def result() -> Array:
            product: Array = results[0].numpy()
            return product.T if turned.transposed else product

        return Run(call, result)


def create(threads: int) -> Peer:
    import warnings

    warnings.filterwarnings("ignore", message="Sparse BSR tensor support is in beta")
    return TorchBsr(threads)
