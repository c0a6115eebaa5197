#!/usr/bin/env python3
"""Makes docs/benchmarks_gpu.md from the json files in bench/results/cuda/, which bench_cuda and gpu_peers.py write.

python bench/cuda/gpu_report.py            from all files
python bench/cuda/gpu_report.py --check    writes nothing; exit status 1 where the page does not fit the files
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results" / "cuda"
DENSITIES = ("1", "0.5", "0.25", "0.1", "0.05")
MASKS = {"l": "lhs", "r": "rhs", "o": "out", "lr": "lhs, rhs", "lro": "all three", "none": "none"}
HOW = """# Benchmarks on GPUs

Made by `bench/cuda/gpu_report.py` from the files in `bench/results/cuda/`.

x is the time divided by (live fraction * the time of cuBLAS on the same shapes and types, measured before and after in
the same run, hot). The live fraction counts triples of blocks. Device time; the pass over the masks counts. Every
result is compared with the masked product in float64, or (beside other libraries) by norm, before it is timed. Beside
other libraries a call is timed in a row of its like, so its work on the host counts where that outlasts the device's:
torch BSR's takes 0.3 ms, and 0.6 ms on a busy host. STK's sdd (the masked result) packs the live blocks, where the
others write the zeros too.
"""


def main() -> int:
    text = make()
    page = ROOT / "docs" / "benchmarks_gpu.md"
    if "--check" in sys.argv[1:]:
        return int(not page.exists() or page.read_text() != text)
    page.write_text(text)
    return 0


def make() -> str:
    parts = [HOW]
    for path in sorted(RESULTS.glob("*.json")):
        record = json.loads(path.read_text())
        versions = ", ".join(
            f"{key} {record[key]}"
            for key in ("maskmm", "commit", "torch", "triton", "cublas", "cuda")
            if record.get(key)
        )
        parts.append(f"## {record['card']}: {path.stem}\n\n{versions}\n")
        parts += of_peers(record) if "cases" in record else of_bench_cuda(record)
    return "\n".join(parts)


def of_peers(record: dict[str, Any]) -> list[str]:
    """A table of x, a column for each library."""
    names = list(dict.fromkeys(peer for case in record["cases"] for peer in case["x"]))
    rows = [["case", "live", *names]]
    for case in record["cases"]:
        rows.append(
            [case["name"], f"{case['live_fraction']:.3f}", *(number(case["x"].get(name)) for name in names)]
        )
    peers = record.get("peers", {}).items()
    packages = "".join(f" {name} {version}." for name, version in peers if version)
    missing = "".join(f" {name} was not installed." for name, version in peers if not version)
    text = f"{record['dtype']}, {record['size']}^3, x of each library; `bench/cuda/peer_calls.py` says what each calls."
    return [f"{text}{packages}{missing}\n", table(rows)]


def of_bench_cuda(record: dict[str, Any]) -> list[str]:
    """Random masks by density, other patterns in a row each, and sizes where x is not the point."""
    by_density: dict[tuple[str, ...], dict[str, str]] = {}
    others = [["case", "live", "time", "cuBLAS", "x"]]
    for result in record["results"]:
        shape = re.fullmatch(r"(\S+) (\d+x\d+x\d+) block (\S+) (\S+) (\S+) ([\d.]+) (.+)", result["name"])
        if shape is None:
            raise ValueError(f"not a name of bench_cuda: {result['name']}")
        group, size, block, masks, pattern, density, kind = shape.groups()
        if pattern == "random" and masks != "none" and size.split("x")[0] == size.split("x")[1]:
            row = by_density.setdefault((group, size, block, MASKS.get(masks, masks), kind), {})
            row[f"{float(density):g}"] = number(result["x"])
        else:
            cublas = sum(result["cublas_ms"]) / 2
            others.append(
                [
                    f"{group} {size}, block {block}, {MASKS.get(masks, masks)}, {pattern} {density}, {kind}",
                    f"{result['live_fraction']:.3f}", time(result["ms"]), time(cublas), number(result["x"]),
                ]
            )  # fmt: skip
    rows = [["type", "size", "block", "masks", "values", *(f"d = {d}" for d in DENSITIES)]]
    rows += [[*key, *(row.get(d, "") for d in DENSITIES)] for key, row in by_density.items()]
    return [table(rows), table(others)]


def number(x: float | None) -> str:
    return "-" if x is None else f"{x:.2f}" if x < 100 else f"{x:.0f}"


def time(ms: float) -> str:
    return f"{ms:.3g} ms" if ms >= 0.1 else f"{1000 * ms:.3g} us"


def table(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:], ""])


if __name__ == "__main__":
    sys.exit(main())
