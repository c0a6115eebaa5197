"""torch's dense products on the CPU: its own MKL for float32 and float64, its own oneDNN for 16-bit types.

It stands in for those two where they are not installed by themselves.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from peers.base import Array, Missing, Peer, Problem, Run, find_library, import_module


class TorchDense(Peer):
    name = "torch_dense"
    title = "torch (MKL, oneDNN)"
    kind = "dense"
    settle_seconds = 0.02

    def __init__(self, threads: int) -> None:
        torch = self.torch = import_module("torch")
        torch.set_num_threads(threads)
        self.types = {"float32", "float64"}
        # without the instructions torch falls back to loops of its own, hundreds of times slower
        if torch.ops.mkldnn._is_mkldnn_bf16_supported():
            self.types.add("bfloat16")
        if torch.ops.mkldnn._is_mkldnn_fp16_supported():
            self.types.add("float16")

    def describe(self) -> dict[str, str]:
        isa = self.torch.backends.cpu.get_cpu_capability()
        return {"version": self.torch.__version__, "isa": isa, "threads": str(self.torch.get_num_threads())}

    def prepare(self, problem: Problem) -> Run | None:
        if problem.dtype not in self.types:
            return None
        a, b, out = (self._tensor(array) for array in (problem.a, problem.b, problem.out))
        matmul = self.torch.matmul
        return Run(lambda: matmul(a, b, out=out), lambda: problem.out)

    def _tensor(self, array: Array) -> Any:
        if array.dtype.itemsize == 2:
            kind = self.torch.bfloat16 if str(array.dtype) == "bfloat16" else self.torch.float16
            return self.torch.from_numpy(array.view(np.int16)).view(kind)
        return self.torch.from_numpy(array)


def create(threads: int) -> Peer:
    try:
        find_library("onednn", "libdnnl.so.3")
        find_library("mkl", "libmkl_rt.so.3")
    except Missing:
        return TorchDense(threads)
    raise Missing("onednn and mkl are measured themselves")
