#!/usr/bin/env python3
"""Measures the memory that a call of maskmm takes beside its operands: how far the peak of the resident size rises.

    python bench/memory.py
    python bench/memory.py --sizes 2048,8192 --dtype float32,bfloat16 --threads 4

Each case runs in a process of its own, so that what an earlier call kept does not hide what a later one needs; the
operands and the result are touched before. A line also says what `maskmm.explain` promises. Linux only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import machine


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="1024,2048,4096,8192", metavar="N,N", help="M = N = K")
    parser.add_argument("--dtype", default="float32,float64,bfloat16", metavar="TYPE,TYPE")
    parser.add_argument("--block", type=int, default=64)
    parser.add_argument("--density", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=len(machine.cores()))
    parser.add_argument("--isa", default="native", choices=sorted(machine.ISA_SETTINGS))
    parser.add_argument("--case", default="", help=argparse.SUPPRESS)  # one case, in this process
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    options = parse(argv)
    if options.case:
        return measure_one(options)
    settings = machine.environment(options.threads, options.isa)
    print(f"{'case':44} {'peak rise':>12} {'explain':>12}  bytes")
    for dtype in options.dtype.split(","):
        for size in options.sizes.split(","):
            for pattern in ("lhs", "rhs", "out"):
                case = f"{dtype},{size},{pattern}"
                subprocess.run([sys.executable, __file__, *argv, "--case", case], check=True, env=settings)
    return 0


def measure_one(options: argparse.Namespace) -> int:
    dtype, size, pattern = options.case.split(",")
    import maskmm
    import shapes

    block = (options.block,) * 3
    case = shapes.Case("memory", dtype, int(size), int(size), int(size), block, pattern, options.density)
    problem = shapes.build(case, {})
    masks = (problem.mask_out, problem.mask_lhs, problem.mask_rhs)
    problem.out.fill(1)
    tiny = shapes.build(shapes.Case("memory", dtype, 64, 64, 64, block, "none", 1.0), {})
    maskmm.block_masked_mm(tiny.a, tiny.b, block)  # what is loaded on the first call does not count
    promised = maskmm.explain(problem.a, problem.b, block, *masks, out=problem.out).workspace_bytes
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before = resident_peak_bytes()
    maskmm.block_masked_mm(problem.a, problem.b, block, *masks, out=problem.out)
    print(f"{case.name:44} {resident_peak_bytes() - before:12,d} {promised:12,d}", flush=True)
    return 0


def resident_peak_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("/proc/self/status has no VmHWM")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
