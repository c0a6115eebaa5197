"""maskmm itself, through its NumPy front end."""

from __future__ import annotations

from typing import Any

from peers.base import Peer, Problem, Run, import_module


class Own(Peer):
    name = "own"
    title = "maskmm"
    kind = "own"

    def __init__(self, threads: int) -> None:
        self.maskmm = import_module("maskmm")
        self.maskmm.set_num_threads(threads)

    def describe(self) -> dict[str, str]:
        return {"version": self.maskmm.__version__, "isa": self.maskmm.cpu_isa()}

    def prepare(self, problem: Problem) -> Run:
        multiply = self.maskmm.block_masked_mm
        a, b, out, block = problem.a, problem.b, problem.out, problem.block
        masks = (problem.mask_out, problem.mask_lhs, problem.mask_rhs)
        return Run(lambda: multiply(a, b, block, *masks, out=out), lambda: out)

    def explain(self, problem: Problem) -> dict[str, Any]:
        """What maskmm says it runs."""
        masks = (problem.mask_out, problem.mask_lhs, problem.mask_rhs)
        found = self.maskmm.explain(problem.a, problem.b, problem.block, *masks, out=problem.out)
        return {"kernel": found.kernel, "workspace_bytes": found.workspace_bytes}


def create(threads: int) -> Peer:
    return Own(threads)
