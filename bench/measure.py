"""Checks results, then times the peers in turns."""

from __future__ import annotations

import concurrent.futures
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from peers.base import Array, Peer, Problem, Run, spread

WARM_BELOW_SECONDS = (
    0.05  # a shorter call follows an untimed one of the same: caches and threads are then awake
)
SHORTEST_SECONDS = 0.001  # calls that are shorter are timed several at a time
# eps of the type that sums run in; unit roundoff of the result type; its smallest subnormal
PRECISION = {
    "float64": (2.0**-53, 2.0**-53, 2.0**-1074),
    "float32": (2.0**-24, 2.0**-24, 2.0**-149),
    "bfloat16": (2.0**-24, 2.0**-8, 2.0**-133),
    "float16": (2.0**-24, 2.0**-11, 2.0**-24),
}


class WrongResult(Exception):
    """A peer's result is outside the bound; it is not timed."""


@dataclass
class Entry:
    """A peer with a problem, verified, and its times."""

    peer: Peer
    run: Run
    problem: Problem  # keeps the arrays alive that `run` points into
    rounds: int  # how many times it takes part
    estimate: float  # seconds of a call
    seconds: list[float] = field(default_factory=list)
    repeats: int = 1

    def summary(self) -> dict[str, Any]:
        ordered = sorted(self.seconds)
        quartiles = statistics.quantiles(ordered, n=4) if len(ordered) > 1 else [ordered[0]] * 3
        return {
            "median": statistics.median(ordered),
            "quartiles": [quartiles[0], quartiles[2]],
            "fastest": ordered[0],
            "runs": len(ordered),
            "calls_per_run": self.repeats,
        }


class Oracle:
    """The exact result of a problem, and how far from it each element may be."""

    def __init__(self, problem: Problem) -> None:
        block_m, block_n, block_k = problem.block
        double = np.float64
        a = problem.a.astype(double)
        b = problem.b.astype(double)
        live_a = _live(problem.mask_lhs, a.shape, (block_m, block_k))
        live_b = _live(problem.mask_rhs, b.shape, (block_k, block_n))
        if problem.mask_lhs is not None:
            a *= spread(problem.mask_lhs.astype(double), (block_m, block_k), a.shape)
        if problem.mask_rhs is not None:
            b *= spread(problem.mask_rhs.astype(double), (block_k, block_n), b.shape)
        self.exact = a @ b
        # single precision does for the bound: it is off by far less than the 0.1% that is added
        sizes = (np.abs(a).astype(np.float32) @ np.abs(b).astype(np.float32)).astype(double) * 1.001
        live = (live_a @ live_b) * block_k
        if problem.mask_out is not None:
            scale = spread(problem.mask_out.astype(double), (block_m, block_n), self.exact.shape)
            self.exact *= scale
            sizes *= np.abs(scale)
            live = live * (problem.mask_out != 0)
        live_k = spread(np.minimum(live, a.shape[-1]), (block_m, block_n), self.exact.shape)
        eps, rounding, tiny = PRECISION[problem.dtype]
        own_error = 2 if problem.dtype == "float64" else 1  # this class computes in float64 too
        self.bound = own_error * (live_k + 4) * eps * sizes + rounding * np.abs(self.exact) + tiny
        self.dead = live_k == 0

    def check(self, result: Array, strict: bool) -> None:
        """Raises WrongResult where an element is out of bounds or, if strict, a block with no live triple is not +0."""
        if result.shape != self.exact.shape:
            raise WrongResult(f"shape {result.shape}, expected {self.exact.shape}")
        found = result.astype(np.float64)
        wrong = ~(np.abs(found - self.exact) <= self.bound)
        if strict:
            wrong |= self.dead & ((found != 0) | np.signbit(found))
        if wrong.any():
            worst = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise WrongResult(
                f"{int(wrong.sum())} of {wrong.size} elements are wrong; {worst}: {found[worst]!r}, "
                f"expected {self.exact[worst]!r} +- {self.bound[worst]:.3g}"
            )


def _live(mask: Array | None, shape: tuple[int, ...], block: tuple[int, int]) -> Array:
    if mask is not None:
        live: Array = mask != 0
        return live.astype(np.float64)
    return np.ones((math.ceil(shape[-2] / block[0]), math.ceil(shape[-1] / block[1])))


def verify(peer: Peer, run: Run, problem: Problem, oracle: Oracle, rounds: int, budget: float) -> Entry:
    """Runs the peer once, checks the result, and plans how often it is timed: a masked peer for ``budget`` seconds. If
    a call is longer than that, the one that was checked counts.
    """
    problem.out.fill(np.nan)  # an element that the call forgets shows
    start = time.perf_counter()
    run.call()
    estimate = time.perf_counter() - start
    oracle.check(run.result(), strict=peer.kind == "own")
    if peer.kind != "masked":
        return Entry(peer, run, problem, rounds, estimate)
    if estimate > budget:
        return Entry(peer, run, problem, 0, estimate, [estimate])
    return Entry(peer, run, problem, min(rounds, int(budget / estimate)), estimate)


def time_in_turns(entries: list[Entry], rounds: int, progress: Callable[[int], None]) -> None:
    """Round after round, each entry once: what disturbs the machine for a while disturbs all of them."""
    for number in range(rounds):
        progress(number)
        for entry in entries:
            if number < entry.rounds:
                entry.seconds.append(_time_once(entry))
                time.sleep(entry.peer.settle_seconds)


def _time_once(entry: Entry) -> float:
    call = entry.run.call
    if entry.estimate < WARM_BELOW_SECONDS:
        start = time.perf_counter()
        call()
        entry.estimate = time.perf_counter() - start
        if not entry.seconds:
            if entry.estimate < SHORTEST_SECONDS:  # the first calls are slow
                call()
                start = time.perf_counter()
                call()
                entry.estimate = time.perf_counter() - start
            entry.repeats = max(1, math.ceil(SHORTEST_SECONDS / max(entry.estimate, 1e-7)))
    start = time.perf_counter()
    for _ in range(entry.repeats):
        call()
    return (time.perf_counter() - start) / entry.repeats


def read_bandwidth(threads: int, size_bytes: int = 1 << 28, rounds: int = 5) -> float:
    """Bytes a second that the threads read from memory together: the floor of products that use each element once."""
    parts = np.array_split(np.ones(size_bytes // 4, np.int32), threads)
    best = math.inf
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for _ in range(rounds):
            start = time.perf_counter()
            list(pool.map(np.max, parts))
            best = min(best, time.perf_counter() - start)
    return size_bytes / best
