#!/usr/bin/env python3
"""Times block_masked_mm on a GPU beside what else a PyTorch user can call, and writes json.

    python bench/cuda/gpu_peers.py OUT.json [--size 8192] [--only "b64 lhs"]

Peers: the dense product (cuBLAS, the denominator of x), cuBLAS on operands whose dead blocks are set to zero in the
same call, torch's block-sparse rows (its Triton kernel; --tune looks for parameters first, minutes a case), and a
plain Triton kernel that skips dead blocks. Each case is timed in rounds of dense, ours, the peers and dense again;
medians of device time. A result farther than 1e-2 from the masked product (relative, by norm) is left out and named.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import triton_kernel

import maskmm

torch: Any = importlib.import_module("torch")

DENSITIES = (1.0, 0.5, 0.25, 0.1, 0.05)
CASES = [
    (block, masks, pattern)
    for block in (64, 32)
    for masks, pattern in (
        ("lhs", "random"), ("rhs", "random"), ("out", "random"), ("lhs+rhs", "random"), ("lhs+rhs+out", "random"),
        ("lhs", "causal"), ("out", "causal"), ("lhs", "band"), ("lhs", "groups"),
    )
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--only", default="", help="cases whose name contains it")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tune", action="store_true", help="tune torch's block-sparse rows for each case")
    options = parser.parse_args()
    n = options.size
    torch.manual_seed(1)
    a, b = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    cases = []
    for block, masks, pattern in CASES:
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
        "tuned": options.tune,
        "dtype": "bfloat16",
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
        **peers(a, b, block, lhs, rhs, mask_out, options.tune),
    }
    times: dict[str, list[float]] = {"dense": []}
    wrong = {}
    for peer, call in calls.items():
        try:
            distance = float(
                (call().float() - expected.float()).norm() / expected.float().norm().clamp(min=1e-30)
            )
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


def peers(
    a: Any, b: Any, block: int, lhs: Any, rhs: Any, mask_out: Any, tune: bool
) -> dict[str, Callable[[], Any]]:
    """What takes this case. Everything that depends on the masks' shapes alone is prepared here, untimed."""
    out = torch.empty_like(a)

    def expand() -> Any:
        product = torch.mm(masked(a, lhs, block), masked(b, rhs, block), out=out)
        return masked(product, mask_out, block)

    def plain_triton() -> Any:
        triton_kernel.multiply(a, b, out, block, lhs, rhs, mask_out)
        return out

    found = {"expand + cuBLAS": expand, "plain Triton": plain_triton}
    if lhs is not None and rhs is None and mask_out is None:
        found["torch BSR"] = torch_bsr(masked(a, lhs, block), b, block, tune)
    return found


def torch_bsr(a: Any, b: Any, block: int, tune: bool) -> Callable[[], Any]:
    triton_ops: Any = importlib.import_module("torch.sparse._triton_ops")
    tuning: Any = importlib.import_module("torch.sparse._triton_ops_meta")
    sparse = a.to_sparse_bsr((block, block))
    zero = torch.zeros(a.shape[0], b.shape[1], device=a.device, dtype=a.dtype)
    out = torch.empty_like(zero)
    if tune:
        tuning.tune_bsr_dense_addmm(zero, sparse, b, beta=0, store=True)
    return lambda: triton_ops.bsr_dense_addmm(zero, sparse, b, beta=0, out=out)


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


def masked(x: Any, mask: Any, block: int) -> Any:
    if mask is None:
        return x
    rows, columns = mask.shape
    return (x.view(rows, block, columns, block) * mask[:, None, :, None]).view(x.shape)


def device_ms(call: Callable[[], Any], budget_ms: float = 12) -> float:
    """Median device time of one call, after a warm-up that also says how many calls fit the budget."""
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    call()
    last.record()
    last.synchronize()
    count = int(max(3, min(60, budget_ms / max(first.elapsed_time(last), 1e-3))))
    events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
    events[0].record()
    for event in events[1:]:
        call()
        event.record()
    events[-1].synchronize()
    median: float = statistics.median(one.elapsed_time(other) for one, other in itertools.pairwise(events))
    return median


if __name__ == "__main__":
    main()
