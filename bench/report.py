#!/usr/bin/env python3
"""Makes tables of the json files in bench/results/: docs/benchmarks.md, and the part of README.md between its markers.

    python bench/report.py            from all files
    python bench/report.py --check    writes nothing; exit status 1 where the tables do not fit the files

Where several files of one machine, instruction set and thread count have the same case, the newest counts.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
DENSITIES = (1.0, 0.5, 0.25, 0.1, 0.05)
PATTERNS = {
    "lhs": "random mask_lhs",
    "rhs": "random mask_rhs",
    "both": "random mask_lhs and mask_rhs",
    "out": "random mask_out",
    "causal_lhs": "causal mask_lhs",
    "causal_out": "causal mask_out",
    "band_lhs": "banded mask_lhs",
    "band_out": "banded mask_out",
    "diagonal_lhs": "8 diagonal groups (d = 0.125), mask_lhs",
    "diagonal_out": "8 diagonal groups (d = 0.125), mask_out",
}
HOW = """x is the time divided by (live fraction * the time of the best dense library on the same shapes and types in
the same run): at x = 1 time follows the live work at the speed of a dense library. The live fraction counts triples of
blocks. Every result is compared with the masked product in float64 before it is timed; the peers take turns, and
medians are shown. The spread is half the distance of the quartiles."""

Record = dict[str, Any]


class Machine:
    """All cases of one machine, instruction set and thread count."""

    def __init__(self, run: Record) -> None:
        self.run = run  # the newest one, with the peers of all
        self.cases: dict[tuple[str, str], Record] = {}

    def add(self, run: Record) -> None:
        peers = self.run["peers"] | run["peers"]  # a run may have had some only
        left_out = {
            name: why for name, why in (self.run["left_out"] | run["left_out"]).items() if name not in peers
        }
        self.run = run | {"peers": peers, "left_out": left_out}
        for case in run["cases"]:
            self.cases[case["suite"], case["name"]] = case | {"commit": run["commit"]}

    @property
    def title(self) -> str:
        about = self.run["machine"]
        threads = "1 thread" if about["threads"] == 1 else f"{about['threads']} threads"
        limit = ", all libraries limited to AVX2" if self.run["isa_limit"] == "avx2" else ""
        return f"{about['cpu']} ({about['cpu_family']}), {self.run['isa']}, {threads}{limit}"

    def suite(self, *names: str) -> list[Record]:
        return [case for (suite, _), case in self.cases.items() if suite in names and "own" in case["times"]]


def load(paths: Iterable[Path]) -> list[Machine]:
    runs = sorted((json.loads(path.read_text()) for path in paths), key=lambda run: str(run["started"]))
    machines: dict[tuple[str, ...], Machine] = {}
    for run in runs:
        about = run["machine"]
        key = (about["cpu"], about["cpu_family"], run["isa"], run["isa_limit"], str(about["threads"]))
        machines.setdefault(key, Machine(run)).add(run)
    return [machines[key] for key in sorted(machines)]


# --- pieces of tables ------------------------------------------------------------------------------------------------


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *(["---:"] * (len(head) - 1))], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def readable(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.3g} s"
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} us"


def spread(times: Record) -> str:
    """Half the distance of the quartiles, relative to the median."""
    low, high = times["quartiles"]
    return f"{(high - low) / 2 / times['median'] * 100:.0f}%"


def square_size(case: Record) -> bool:
    return bool(case["m"] == case["n"] == case["k"] and not case["batch"])


def x_table(cases: list[Record], blocks: Iterable[int]) -> str:
    """x by pattern and density; the numbers of a cell are those of the blocks, in their order."""
    blocks = tuple(blocks)
    found = {(case["pattern"], case["density"], case["block"][0]): case.get("x") for case in cases}
    rows = []
    for pattern, title in PATTERNS.items():
        if not any(key[0] == pattern for key in found):
            continue
        row = [title]
        for density in DENSITIES:
            shown = density if not pattern.startswith("diagonal") else (0.125 if density == 0.1 else None)
            values = [found.get((pattern, shown, block)) for block in blocks]
            row.append(" / ".join("-" if x is None else f"{x:.2f}" for x in values) if any(values) else "")
        rows.append(row)
    return table(["", *(f"d = {density:g}" for density in DENSITIES)], rows)


def peer_table(machine: Machine, cases: list[Record]) -> str:
    """How many times as long as maskmm each library takes; in parentheses where that is extrapolated. Of a case that
    two suites measured, the run with the most libraries is shown."""
    peers = [name for name in machine.run["peers"] if name != "own"]
    fullest: dict[str, Record] = {}
    for case in cases:
        if len(case["times"]) > len(fullest.get(case["name"], {"times": {}})["times"]):
            fullest[case["name"]] = case
    rows = []
    for case in fullest.values():
        own = case["times"]["own"]["median"]
        row = [case["name"], readable(own)]
        for name in peers:
            if name in case["times"]:
                row.append(f"{case['times'][name]['median'] / own:.2f}")
            elif name in case["predicted_seconds"]:
                row.append(f"(about {case['predicted_seconds'][name] / own:.0f})")
            else:
                row.append("-")
        rows.append(row)
    return table(["", "maskmm", *(machine.run["peers"][name]["title"] for name in peers)], rows)


def case_table(machine: Machine, cases: list[Record]) -> str:
    """A row for each case."""
    compared = any("ratio_to_reference" in case for case in cases)
    read = any(case.get("times_read_of_b") for case in cases)
    head = ["case", "live", "maskmm", "spread", "best dense", "x", "live TFLOP/s", "dense-equivalent"]
    head += ["time / time of the plain case"] if compared else []
    head += ["time / time to read live b"] if read else []
    rows = []
    for case in cases:
        own = case["times"]["own"]
        row = [case["name"], f"{case['live_fraction']:.3g}", readable(own["median"]), spread(own)]
        if "best_dense" in case:
            name = case["best_dense"]
            library, _, other_type = name.partition(":")
            title = " ".join(filter(None, (machine.run["peers"][library]["title"], other_type)))
            row.append(f"{readable(case['times'][name]['median'])} ({title})")
        else:
            row.append("-")
        row.append(f"{case['x']:.2f}" if "x" in case else "-")
        row += [f"{case['live_tflops']:.3g}", f"{case['dense_equivalent_tflops']:.3g}"]
        row += (
            [f"{case['ratio_to_reference']:.2f}" if "ratio_to_reference" in case else ""] if compared else []
        )
        row += [f"{case['times_read_of_b']:.2f}" if case.get("times_read_of_b") else ""] if read else []
        rows.append(row)
    return table(head, rows)


# --- the two documents -----------------------------------------------------------------------------------------------


def readme_part(machines: list[Machine]) -> str:
    parts = []
    for machine in machines:
        cases = [case for case in machine.suite("quick", "square") if case["dtype"] == "float32"]
        cases = [case for case in cases if case["n"] == 2048]
        if not cases:
            continue
        peers = machine.run["peers"]
        dense = ", ".join(
            f"{peer['title']} {peer['version']}" for peer in peers.values() if peer["kind"] == "dense"
        )
        parts.append(
            f"x for float32, 2048^3, blocks of 64 / blocks of 32, on an {machine.title}; dense: {dense}.\n"
        )
        parts.append(x_table(cases, (64, 32)))
        shown = [case for case in cases if case["density"] == 0.25 and case["block"][0] == 64]
        shown = [case for case in shown if case["pattern"] in ("lhs", "rhs", "out")]
        if any(peer["kind"] == "masked" for peer in peers.values()) and shown:
            parts.append("Time of other libraries on the same products, in multiples of maskmm's:\n")
            parts.append(peer_table(machine, shown))
    if not parts:
        return ""
    return "\n".join(
        [*parts, "[docs/benchmarks.md](docs/benchmarks.md) has all cases, and how they were measured.\n"]
    )


def document(machines: list[Machine]) -> str:
    parts = ["# Benchmarks\n", "Made by `bench/report.py` from the files in `bench/results/`.\n", HOW + "\n"]
    for machine in machines:
        parts += [f"## {machine.title}\n", about_run(machine)]
        square = machine.suite("quick", "square")
        for dtype, size in sorted({(case["dtype"], case["n"]) for case in square}):
            cases = [case for case in square if (case["dtype"], case["n"]) == (dtype, size)]
            parts += [f"### x for {dtype}, {size}^3, blocks of 64 / blocks of 32\n", x_table(cases, (64, 32))]
        if square:
            parts += ["### Times of other libraries, in multiples of maskmm's\n", peer_table(machine, square)]
        masked_peers = {name for name, peer in machine.run["peers"].items() if peer["kind"] == "masked"}
        for suite in sorted({suite for suite, _ in machine.cases} - {"quick", "square", "threads"}):
            cases = machine.suite(suite)
            parts += [f"### Suite {suite}\n", case_table(machine, cases)]
            if any(name in masked_peers for case in cases for name in case["times"]):
                parts += ["In multiples of maskmm's time:\n", peer_table(machine, cases)]
    return "\n".join([*parts, *scaling(machines)])


def about_run(machine: Machine) -> str:
    run, about = machine.run, machine.run["machine"]
    commits = sorted({str(case["commit"])[:10] for case in machine.cases.values()})
    lines = [
        f"- {about['cpu']}, {about['cores_of_machine']} cores, L3 {(about['l3_bytes'] or 0) >> 20} MiB, "
        f"{' '.join(about['instructions'])}; {about['system']}, Python {about['python']}",
        f"- measured until {run['started'][:10]}, commit {', '.join(commits)}; "
        f"memory is read at {run['read_bandwidth_bytes_per_second'] / 1e9:.3g} GB/s; "
        f"load before {about['load_at_start']}",
        f"- environment: {', '.join(f'`{name}={value}`' for name, value in run['environment'].items()) or 'clean'}",
    ]
    for peer in run["peers"].values():
        facts = ", ".join(
            f"{key} {value}" for key, value in peer.items() if key not in ("title", "kind", "version")
        )
        lines.append(f"- {peer['title']} {peer['version']}{f' ({facts})' if facts else ''}")
    lines += [f"- left out: {name} ({reason})" for name, reason in run["left_out"].items()]
    return "\n".join(lines) + "\n"


def scaling(machines: list[Machine]) -> list[str]:
    """How the times of the suite threads shrink with the number of threads."""
    families: dict[str, dict[int, Machine]] = {}
    for machine in machines:
        if machine.suite("threads"):
            about = machine.run["machine"]
            families.setdefault(f"{about['cpu']}, {machine.run['isa']}", {})[about["threads"]] = machine
    parts = []
    for title, members in families.items():
        counts = sorted(members)
        first = {case["name"]: case for case in members[counts[0]].suite("threads")}
        rows = []
        for name in first:
            row = [name]
            for count in counts:
                case = members[count].cases.get(("threads", name))
                speedups = [_speedup(first[name], case, peer) for peer in ("own", "best")] if case else []
                row.append(" / ".join(speedups))
            rows.append(row)
        parts.append(f"## Threads: {title}\n")
        parts.append(
            f"Speed-up over {counts[0]} thread{'s' * (counts[0] > 1)}: maskmm / the best dense library.\n"
        )
        parts.append(table(["", *(f"{count}" for count in counts)], rows))
    return parts


def _speedup(base: Record, case: Record, peer: str) -> str:
    names = [record.get("best_dense") if peer == "best" else peer for record in (base, case)]
    if None in names or any(
        name not in record["times"] for name, record in zip(names, (base, case), strict=True)
    ):
        return "-"
    times = [record["times"][name]["median"] for name, record in zip(names, (base, case), strict=True)]
    return f"{times[0] / times[1]:.2f}"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; 1 where the tables do not fit the files"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the json files")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of README.md and docs/")
    options = parser.parse_args(argv)
    machines = load(options.results.glob("*.json"))
    if not machines:
        print(f"no json file in {options.results}: run bench/run.py first", file=sys.stderr)
        return 1
    readme = options.root / "README.md"
    text = readme.read_text()
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{readme} lacks the lines {BEGIN} and {END}")
    wanted = {
        readme: f"{head}{BEGIN}\n{readme_part(machines)}{END}{tail}",
        options.root / "docs" / "benchmarks.md": document(machines),
    }
    stale = [path for path, content in wanted.items() if not path.exists() or path.read_text() != content]
    for path in stale:
        if options.check:
            print(f"{path} does not fit {options.results}: run bench/report.py", file=sys.stderr)
        else:
            path.write_text(wanted[path])
            print(f"written: {path}")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
