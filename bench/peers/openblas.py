"""NumPy's matmul, on the OpenBLAS of its wheel."""

from __future__ import annotations

import numpy as np

from peers.base import Missing, Peer, Problem, Run, import_module


class OpenBlas(Peer):
    name = "openblas"
    title = "NumPy (OpenBLAS)"
    kind = "dense"
    settle_seconds = 0.2  # its threads spin on; with 0.06 the call that followed was 30% slower

    def describe(self) -> dict[str, str]:
        found = {"version": np.__version__}
        try:
            threadpoolctl = import_module("threadpoolctl")
        except Missing:
            return found
        for pool in threadpoolctl.threadpool_info():
            if pool["internal_api"] == "openblas" and "numpy" in pool["filepath"]:
                found |= {"openblas": str(pool["version"]), "kernel": str(pool.get("architecture"))}
                found["threads"] = str(pool["num_threads"])
        return found

    def prepare(self, problem: Problem) -> Run | None:
        if problem.dtype not in ("float32", "float64"):
            return None
        a, b, out = problem.a, problem.b, problem.out
        return Run(lambda: np.matmul(a, b, out=out), lambda: out)


def create(threads: int) -> Peer:
    return OpenBlas()
