"""One measuring process: the peers that are loaded, and the groups of cases that they go through."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import measure
import shapes
from peers.base import Array, Peer, Problem
from peers.own import Own
from shapes import Case

CALIBRATION = Case("calibration", "float32", 512, 512, 512, (64, 64, 64), "lhs", 0.5)


class Session:
    """Measures group after group; keeps what was wrong on the way."""

    def __init__(self, peers: list[Peer], rounds: int, limit: float, budget: float) -> None:
        self.own = next((peer for peer in peers if peer.kind == "own"), None)
        self.dense = [peer for peer in peers if peer.kind == "dense"]
        self.masked = [peer for peer in peers if peer.kind == "masked"]
        self.rounds, self.limit, self.budget = rounds, limit, budget
        self.failures: list[str] = []
        self.own_failed = False
        self.seconds_per_multiply_add = {peer.name: self._calibrate(peer) for peer in self.masked}

    def own_isa(self) -> str:
        return self.own.describe().get("isa", "unknown") if self.own else "none"

    def measure_group(self, cases: list[Case], read_bandwidth: float) -> list[dict[str, Any]]:
        """Verifies and times the cases side by side; their records for the json file."""
        operands: dict[str, tuple[Array, Array, Array]] = {}
        dense: dict[str, dict[str, measure.Entry]] = {}
        entries: dict[str, dict[str, measure.Entry]] = {}
        problems: dict[str, Problem] = {}
        skipped: dict[str, dict[str, float]] = {}
        for case in cases:
            problem = problems[case.name] = shapes.build(case, operands)
            if case.dense_key not in dense:
                oracle = measure.Oracle(problem.dense())
                dense[case.dense_key] = self._entries(self.dense, problem.dense(), oracle, case.dense_key)
            oracle = measure.Oracle(problem)
            entries[case.name] = self._entries([self.own] if self.own else [], problem, oracle, case.name)
            fast, skipped[case.name] = self._fast_enough(case, problem)
            entries[case.name] |= self._entries(fast, problem, oracle, case.name)
        turns = [entry for found in (*dense.values(), *entries.values()) for entry in found.values()]
        measure.time_in_turns(turns, self.rounds, self._progress)
        records = {}
        for case in cases:
            found = {**_dense_of(case, dense), **entries[case.name]}
            times = {name: entry.summary() for name, entry in found.items()}
            record = self._record(case, problems[case.name], times, read_bandwidth)
            records[case.name] = record | {"predicted_seconds": skipped[case.name]}
        for record in records.values():
            _compare(record, records)
            _print(record)
        return list(records.values())

    def _entries(
        self, peers: list[Peer], problem: Problem, oracle: measure.Oracle, name: str
    ) -> dict[str, measure.Entry]:
        found = {}
        for peer in peers:
            run = peer.prepare(problem)
            if run is None:
                continue
            try:
                found[peer.name] = measure.verify(peer, run, problem, oracle, self.rounds, self.budget)
            except measure.WrongResult as wrong:
                self.failures.append(f"{peer.name}, {name}: {wrong}")
                self.own_failed |= peer is self.own
        return found

    def _work(self, peer: Peer, case: Case, problem: Problem) -> float:
        return case.multiply_adds * (shapes.live_fraction(problem) if peer.skips else 1.0)

    def _calibrate(self, peer: Peer) -> float:
        problem = shapes.build(CALIBRATION, {})
        run = peer.prepare(problem)
        if run is None:
            return 0.0
        run.call()
        entry = measure.Entry(peer, run, problem, 1, 0.0)
        measure.time_in_turns([entry], 1, lambda number: None)
        return entry.seconds[0] / self._work(peer, CALIBRATION, problem)

    def _fast_enough(self, case: Case, problem: Problem) -> tuple[list[Peer], dict[str, float]]:
        fast, skipped = [], {}
        for peer in self.masked:
            predicted = self.seconds_per_multiply_add[peer.name] * self._work(peer, case, problem)
            if predicted <= self.limit:
                fast.append(peer)
            elif peer.takes(problem):
                skipped[peer.name] = predicted
        return fast, skipped

    def _record(
        self, case: Case, problem: Problem, times: dict[str, Any], read_bandwidth: float
    ) -> dict[str, Any]:
        live, work = shapes.live_fraction(problem), 2e-12 * case.multiply_adds
        record: dict[str, Any] = dataclasses.asdict(case) | {"name": case.name, "group": case.group}
        del record["group_tag"]
        record |= {"live_fraction": live, "times": times}
        dense = {peer.name for peer in self.dense}
        medians = {name: found["median"] for name, found in times.items() if name.partition(":")[0] in dense}
        best = min(medians, key=lambda name: medians[name], default=None)
        if best:
            record |= {"best_dense": best, "dense_tflops": work / medians[best]}
        if not isinstance(self.own, Own) or self.own.name not in times:
            return record
        own = times[self.own.name]["median"]
        record |= self.own.explain(problem)
        record |= {"live_tflops": live * work / own, "dense_equivalent_tflops": work / own}
        if best and live:
            record["x"] = own / (live * medians[best])
        if case.suite == "small_m" and live:
            record["times_read_of_b"] = own / (live * problem.b.nbytes / read_bandwidth)
        return record

    def _progress(self, number: int) -> None:
        if sys.stderr.isatty():
            end = "\r" if number + 1 < self.rounds else "\r          \r"
            print(f"round {number + 1}/{self.rounds}", end=end, file=sys.stderr, flush=True)


def _dense_of(case: Case, dense: dict[str, dict[str, measure.Entry]]) -> dict[str, measure.Entry]:
    """The dense products to compare with; for 16-bit types also those of float32, where the group has them: a dense
    library may be slower in 16 bits.
    """
    found = dict(dense[case.dense_key])
    if case.dtype in ("bfloat16", "float16"):
        wide = dense.get(dataclasses.replace(case, dtype="float32").dense_key, {})
        found |= {f"{name}:float32": entry for name, entry in wide.items()}
    return found


def _compare(record: dict[str, Any], records: dict[str, dict[str, Any]]) -> None:
    """Adds the ratio of the times to the case that this one refers to."""
    other = records.get(record["reference"], {}).get("times", {}).get("own")
    own = record["times"].get("own")
    if own and other:
        record["ratio_to_reference"] = own["median"] / other["median"]


def _print(record: dict[str, Any]) -> None:
    words = [f"{record['name']:58}", f"live {record['live_fraction']:.4f}"]
    if "x" in record:
        words.append(f"x {record['x']:6.3f}")
    if "ratio_to_reference" in record:
        words.append(f"ratio {record['ratio_to_reference']:.3f}")
    if "times_read_of_b" in record:
        words.append(f"read of b x {record['times_read_of_b']:.2f}")
    words += [f"{name} {_readable(found['median'])}" for name, found in record["times"].items()]
    print("  ".join(words), flush=True)


def _readable(seconds: float) -> str:
    return f"{seconds * 1e3:.2f}ms" if seconds >= 1e-3 else f"{seconds * 1e6:.1f}us"
