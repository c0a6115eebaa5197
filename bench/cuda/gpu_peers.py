#!/usr/bin/env python3
"""Times block_masked_mm on a GPU beside what else a PyTorch user can call, and writes json.

    python bench/cuda/gpu_peers.py OUT.json [--size 8192] [--dtype float16] [--blocks 128] [--only "b128 lhs"]

peer_calls.py says what the peers are; those that are not installed (STK) are left out and named. Each case is timed in
rounds of ours, the peers and the dense product (cuBLAS, the denominator of x); medians of device time. A result farther
than 1e-2 from the masked product (relative, by norm) is left out and named.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import os
import statistics
from pathlib import Path
from typing import Any

import peer_calls
import triton_kernel
from peer_calls import device_ms, masked

import maskmm

torch: Any = importlib.import_module("torch")

DENSITIES = (1.0, 0.5, 0.25, 0.1, 0.05)
CASES = (
    ("lhs", "random"), ("rhs", "random"), ("out", "random"), ("lhs+rhs", "random"), ("lhs+rhs+out", "random"),
    ("lhs", "causal"), ("out", "causal"), ("lhs", "band"), ("lhs", "groups"),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--dtype", choices=("bfloat16", "float16"), default="bfloat16")
    parser.add_argument("--blocks", default="64,32", help="block sizes, separated by commas")
    parser.add_argument("--only", default="", help="cases whose name contains it")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--tune", action="store_true", help="torch's block-sparse rows with the best parameters too"
    )
    options = parser.parse_args()
    n = options.size
    torch.manual_seed(1)
    a, b = (torch.randn(n, n, device="cuda", dtype=getattr(torch, options.dtype)) for _ in range(2))
    cases = []
    for block, (masks, pattern) in itertools.product(map(int, options.blocks.split(",")), CASES):
        for density in DENSITIES if pattern == "random" else (0.0,):
            name = f"b{block} {masks} {pattern}" + (f" d={density:g}" if density else "")
            if options.only in name:
                cases.append(measure(name, a, b, block, masks.split("+"), pattern, density, options))
    properties = torch.cuda.get_device_properties(0)
    record = {
        "card": properties.name,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": triton_kernel.describe(),
        "maskmm": maskmm.__version__,
        "commit": os.environ.get("COMMIT", ""),
        "program": "bench/cuda/gpu_peers.py",
        "peers": peer_calls.versions(),
        "dtype": options.dtype,
        "size": n,
        "cases": cases,
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n")


def measure(
    name: str,
    a: Any,
    b: Any,
    block: int,
    masks: list[str],
    pattern: str,
    density: float,
    options: argparse.Namespace,
) -> dict[str, Any]:
    count = a.shape[0] // block
    lhs, rhs, mask_out = (
        make_mask(count, pattern, density) if which in masks else None for which in ("lhs", "rhs", "out")
    )
    live = live_fraction(count, lhs, rhs, mask_out)
    out, dense = torch.empty_like(a), torch.empty_like(a)
    zeroed = masked(a, lhs, block), masked(b, rhs, block)
    expected = masked(zeroed[0] @ zeroed[1], mask_out, block)
    calls = {
        "ours": lambda: maskmm.block_masked_mm(a, b, block, mask_out, lhs, rhs, out=out),
        **peer_calls.prepare(a, b, block, lhs, rhs, mask_out, options.tune),
    }
    times: dict[str, list[float]] = {"dense": []}
    wrong = {}
    for peer, call in calls.items():
        try:
            got = peer_calls.dense(call()).float()
            distance = float((got - expected.float()).norm() / expected.float().norm().clamp(min=1e-30))
        except Exception as error:
            wrong[peer] = f"{type(error).__name__}: {error}"[:200]
            continue
        if distance < 1e-2:
            times[peer] = []
        else:
            wrong[peer] = f"wrong by {distance:.3g}"
    calls["dense"] = lambda: torch.mm(a, b, out=dense)
    for _ in range(options.rounds):
        for peer in (*times, "dense"):
            times[peer].append(device_ms(calls[peer]))
    medians = {peer: statistics.median(values) for peer, values in times.items()}
    x = {peer: ms / (live * medians["dense"]) for peer, ms in medians.items() if peer != "dense"}
    print(
        f"{name:28s} live {live:.4f}  " + "  ".join(f"{peer} {value:.2f}" for peer, value in x.items()),
        wrong or "",
    )
    return {"name": name, "live_fraction": live, "ms": medians, "x": x, "left_out": wrong}


def make_mask(count: int, pattern: str, density: float) -> Any:
    i = (torch.arange(count, device="cuda") + 0.5) / count
    if pattern == "causal":
        return i[None, :] <= i[:, None]
    if pattern == "band":
        return (i[None, :] - i[:, None]).abs() <= 0.0665
    if pattern == "groups":
        return (i[None, :] * 8).long() == (i[:, None] * 8).long()
    return torch.rand(count, count, device="cuda") < density


def live_fraction(count: int, lhs: Any, rhs: Any, mask_out: Any) -> float:
    left, right, result = (
        torch.ones(count, count, device="cuda") if mask is None else mask.float()
        for mask in (lhs, rhs, mask_out)
    )
    return float(((left @ right) * result).double().sum()) / count**3


if __name__ == "__main__":
    main()
