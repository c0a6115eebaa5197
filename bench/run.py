#!/usr/bin/env python3
"""Measures maskmm against dense libraries and against libraries that know masks or sparse blocks.

    python bench/run.py                          the quick suite (float32, 2048^3, blocks of 64 and 32)
    python bench/run.py --list                   suites and peers
    python bench/run.py --list --suite layouts   the cases of a suite
    python bench/run.py --suite square --sizes 2048 --dtype float32 --filter 'b64 (lhs|rhs)'
    python bench/run.py --suite cpu --isa avx2   every library limited to AVX2
    python bench/run.py --suite threads --threads 1,2,4

For each case it prints and records x = time / (live fraction * time of the best dense library on the same shapes and
types in the same run): x = 1 means that time follows the live work at the speed of a dense library. The live fraction
counts triples of blocks (bi, bj, bk).

How it measures:
- It starts itself anew with a clean environment, on one logical processor of each of --threads cores. All libraries see
  the same processors.
- Each peer's result is compared element by element with the masked product in float64 before it is timed.
- Peers and cases of a group take turns, round after round; between them the threads of one library fall asleep before
  the next one starts. A call below 50 ms follows an untimed one of the same. Medians and quartiles are recorded.
- A peer with masks that is predicted to need more than --limit seconds for a call is left out of that case. Conversions
  to other formats (BSR) are not timed.
- Peers that are not installed are left out and listed: pip install ".[bench]" (and torch==2.13.0 from its CPU wheels).

Results go to bench/results/ as json, with the machine, the commit, the environment and the versions of the peers;
bench/report.py makes tables of them. Exit status: 0, or 1 where a result of maskmm was wrong.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import machine

SCHEMA = 1
RESULTS = Path(__file__).parent / "results"


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", default="quick", help="suites, separated by commas (default: quick)")
    parser.add_argument("--filter", default="", metavar="REGEX", help="only cases whose name matches")
    parser.add_argument("--sizes", default="", metavar="N,N", help="only cases with these N")
    parser.add_argument("--dtype", default="", metavar="TYPE,TYPE", help="only cases of these types")
    parser.add_argument("--peers", default="", metavar="NAME,NAME", help="only these peers (default: all)")
    parser.add_argument(
        "--threads", default="", metavar="N", help="threads (default: cores); several: one run each"
    )
    parser.add_argument(
        "--isa", default="native", choices=sorted(machine.ISA_SETTINGS), help="limit all libraries"
    )
    parser.add_argument("--rounds", type=int, default=7, help="timed calls of each peer (default: 7)")
    parser.add_argument(
        "--limit", type=float, default=5.0, metavar="SECONDS", help="of one call of a masked peer"
    )
    parser.add_argument(
        "--budget", type=float, default=1.0, metavar="SECONDS", help="of a masked peer in a case"
    )
    parser.add_argument(
        "--output", type=Path, help="json file (default: bench/results/<suite>-<cpu>-<isa>-<n>t.json)"
    )
    parser.add_argument(
        "--list", action="store_true", help="print suites and peers, or the cases of --suite, and stop"
    )
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    options = parse(argv)
    if options.list:
        return print_list(options, whole="--suite" not in " ".join(argv))
    counts = [int(count) for count in filter(None, options.threads.split(","))] or [len(machine.cores())]
    cores = len(machine.cores())
    if max(counts) > cores or min(counts) < 1:
        raise SystemExit(f"--threads: expected 1 to {cores}, the cores that are there, got {options.threads}")
    if not options.child:
        if len(counts) == 1:
            machine.enter_clean_process([__file__, *argv, "--child"], counts[0], options.isa)
        return max(
            subprocess.run([sys.executable, __file__, *argv, "--threads", str(count)]).returncode
            for count in counts
        )
    return measure_all(options, counts[0])


def print_list(options: argparse.Namespace, whole: bool) -> int:
    import peers
    import shapes

    if not whole:
        for case in selected(options):
            print(case.name)
        return 0
    print("Suites:")
    for name, suite in shapes.SUITES.items():
        print(f"  {name:12} {len(list(suite())):4} cases  {(suite.__doc__ or '').partition(chr(10))[0]}")
    print("Peers:")
    for name in peers.NAMES:
        try:
            found = peers.load(name, 1)
            print(f"  {name:12} {found.kind:7} {found.title} {found.describe().get('version', '')}")
        except peers.Missing as reason:
            print(f"  {name:12} left out: {reason}")
    return 0


def selected(options: argparse.Namespace) -> list[Any]:
    import shapes

    sizes = [int(size) for size in filter(None, options.sizes.split(","))]
    dtypes = list(filter(None, options.dtype.split(",")))
    suites = options.suite.split(",")
    unknown = [suite for suite in suites if suite not in shapes.SUITES]
    if unknown:
        raise SystemExit(f"unknown suite {unknown[0]!r}; there are: {', '.join(shapes.SUITES)}")
    return shapes.select(suites, options.filter, sizes, dtypes)


def measure_all(options: argparse.Namespace, threads: int) -> int:
    import peers
    from measure import read_bandwidth
    from session import Session

    cases = selected(options)
    if not cases:
        raise SystemExit("no case is left; see --list")
    about = machine.describe(threads)
    if about["load_at_start"] > 0.5:
        print(
            f"other work is running here (load {about['load_at_start']}): the times will not be good",
            file=sys.stderr,
        )
    loaded, left_out = [], {}
    for name in list(filter(None, options.peers.split(","))) or peers.NAMES:
        try:
            loaded.append(peers.load(name, threads))
        except KeyError:
            raise SystemExit(f"unknown peer {name!r}; there are: {', '.join(peers.NAMES)}") from None
        except peers.Missing as reason:
            left_out[name] = str(reason)
            print(f"left out: {name}: {reason}")
    if importlib.util.find_spec("ml_dtypes") is None and any(case.dtype == "bfloat16" for case in cases):
        cases = [case for case in cases if case.dtype != "bfloat16"]
        left_out["bfloat16"] = "ml_dtypes is not installed"
    session = Session(loaded, options.rounds, options.limit, options.budget)
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "suite": options.suite,
        "command": " ".join(["bench/run.py", *(word for word in sys.argv[1:] if word != "--child")]),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": about,
        "isa": session.own_isa(),
        "isa_limit": options.isa,
        **machine.commit(),
        "environment": machine.settings(),
        "peers": {peer.name: {"title": peer.title, "kind": peer.kind, **peer.describe()} for peer in loaded},
        "left_out": left_out,
        "read_bandwidth_bytes_per_second": read_bandwidth(threads),
        "cases": [],
    }
    path = options.output or RESULTS / file_name(record)
    path.parent.mkdir(parents=True, exist_ok=True)
    groups = itertools.groupby(sorted(cases, key=lambda case: case.group), key=lambda case: case.group)
    for group, members in groups:
        print(f"\n{group}  ({threads} threads, {record['isa']})", flush=True)
        record["cases"] += session.measure_group(list(members), record["read_bandwidth_bytes_per_second"])
        record["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
        record["load_at_end"] = round(os.getloadavg()[0], 2)
        write(path, record)
    print(f"\nwritten: {path}")
    for failure in session.failures:
        print(f"WRONG: {failure}", file=sys.stderr)
    return 1 if session.own_failed else 0


def write(path: Path, record: dict[str, Any]) -> None:
    """A case takes a line, and six digits are enough: files that change can be compared."""

    def rounded(value: Any) -> Any:
        if isinstance(value, float):
            return float(f"{value:.6g}")
        if isinstance(value, dict):
            return {key: rounded(item) for key, item in value.items()}
        return [rounded(item) for item in value] if isinstance(value, list | tuple) else value

    head = json.dumps(rounded({key: value for key, value in record.items() if key != "cases"}), indent=1)
    cases = ",\n".join(json.dumps(rounded(case)) for case in record["cases"])
    path.write_text(f'{head.rstrip("}").rstrip()},\n "cases": [\n{cases}\n]}}\n')


def file_name(record: dict[str, Any]) -> str:
    about = record["machine"]
    family = re.sub(r"[^0-9]+", "-", about["cpu_family"]).strip("-")
    cpu = re.sub(r"[^a-z0-9]+", "-", f"{about['cpu'].lower()}").strip("-")
    suite = record["suite"].replace(",", "+")
    return f"{suite}-{cpu}-{family}-{record['isa']}-{about['threads']}t.json"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
