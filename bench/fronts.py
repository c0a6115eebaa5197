#!/usr/bin/env python3
"""Times what the fronts for PyTorch and JAX add to the products, and gradients beside products.

    python bench/fronts.py OUT.json [--device cuda] [--only linear] [--threads 1]
    python bench/fronts.py --report [--check]     makes docs/benchmarks_fronts.md of bench/results/fronts/

linear: forward and backward of BlockMaskedLinear beside its forward product alone. gradient: the gradient of mask_lhs
(block_masked_dot) beside the product of the same shape. torch, jax: a whole small call on the host, without waiting
for the device. What one line compares takes turns, and medians are given.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "fronts"
PAGE = ROOT / "docs" / "benchmarks_fronts.md"
Calls = dict[str, Callable[[], Any]]
Line = tuple[str, str, Callable[[], dict[str, float]]]  # its name, its unit, what measures it
HOW = """# Benchmarks of the fronts

Made by `bench/fronts.py` from the files in `bench/results/fronts/`. Calls of one line took turns in one run; medians.
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of torch and maskmm")
    parser.add_argument("--only", default="", help="lines whose name contains it")
    parser.add_argument("--report", action="store_true")
    parser.add_argument(
        "--check", action="store_true", help="with --report: writes nothing, says by its status"
    )
    options = parser.parse_args()
    if options.report:
        text = report()
        if options.check:
            return int(not PAGE.exists() or PAGE.read_text() != text)
        PAGE.write_text(text)
        return 0
    if options.out is None:
        parser.error("OUT.json is needed")
    record = measure(options.device, options.only, options.threads)
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    return 0


def measure(device: str, only: str, threads: int) -> dict[str, Any]:
    torch, maskmm = load("torch"), load("maskmm")

    torch.set_num_threads(threads)
    maskmm.set_num_threads(threads)
    lines = []
    for name, unit, make in (*linear_lines(device), *gradient_lines(device), *call_lines(device)):
        if only in name:
            times = make()
            lines.append({"name": name, "unit": unit, "times": times})
            print(name, {key: round(value, 2) for key, value in times.items()}, flush=True)
    return {
        "machine": torch.cuda.get_device_name() if device == "cuda" else processor(),
        "commit": os.environ.get("COMMIT", ""),
        "threads": maskmm.num_threads(),
        "versions": {name: version(name) for name in ("maskmm", "torch", "jax")},
        "cuda": torch.version.cuda if device == "cuda" else "",
        "lines": lines,
    }


def linear_lines(device: str) -> list[Line]:
    """Forward and backward of a layer; the goal is 1.15 times three of its products."""
    torch, maskmm = load("torch"), load("maskmm")
    load("maskmm.torch")

    tokens, width, inner = (8192, 4096, 11008) if device == "cuda" else (512, 1024, 4096)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32

    def run(density: float) -> dict[str, float]:
        layer = maskmm.torch.BlockMaskedLinear(
            width, inner, bias=False, density=density, block_size=64, device=device, dtype=dtype
        )
        x = torch.randn(tokens, width, device=device, dtype=dtype, requires_grad=True)
        cotangent = torch.randn(tokens, inner, device=device, dtype=dtype)

        def both() -> None:
            x.grad = layer.weight.grad = None
            layer(x).backward(cotangent)

        def product() -> None:
            with torch.no_grad():
                layer(x)

        return milliseconds(device, {"product": product, "forward and backward": both})

    return [
        (f"linear {tokens} x {width} -> {inner}, block 64, d = {d:g}", "ms", partial(run, d))
        for d in (1.0, 0.5, 0.25)
    ]


def gradient_lines(device: str) -> list[Line]:
    """The gradient of mask_lhs needs the sums of g b^T, M x K, and writes only a number a block; goal 1.1."""
    torch, front = load("torch"), load("maskmm.torch")

    shapes = ((8192, 8192, 8192), (8192, 4096, 11008)) if device == "cuda" else ((2048, 2048, 2048),)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32

    def run(m: int, k: int, n: int) -> dict[str, float]:
        a, b, g = (torch.randn(*s, device=device, dtype=dtype) for s in ((m, k), (k, n), (m, n)))
        calls: Calls = {
            "product": lambda: front.block_masked_mm(g, b.mT, 64),
            "gradient of mask_lhs": lambda: front.block_masked_dot(a, g, b.mT, 64),
        }
        return milliseconds(device, calls)

    return [(f"gradient {m} x {k} x {n}, block 64", "ms", partial(run, m, k, n)) for m, k, n in shapes]


def call_lines(device: str) -> list[Line]:
    """A whole small call; the goals are 15 us without gradients, 40 with, and 10 us that JAX adds."""
    lines: list[Line] = [("torch call", "us", partial(torch_calls, device))]
    if importlib.util.find_spec("jax"):
        lines.append(("jax call", "us", jax_calls))
    return lines


def torch_calls(device: str) -> dict[str, float]:
    torch, maskmm = load("torch"), load("maskmm")
    load("maskmm.torch")

    n, dtype = (256, torch.float16) if device == "cuda" else (32, torch.float32)
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    mask = torch.ones(n // 32, n // 32, dtype=torch.bool, device=device)
    weight = b.clone().requires_grad_()
    direct = maskmm.torch.block_masked_mm
    return microseconds(
        {
            "a @ b": lambda: a @ b,
            "a @ b, requires grad": lambda: a @ weight,
            "maskmm.torch, no mask": lambda: direct(a, b, 32),
            "maskmm.torch, mask": lambda: direct(a, b, 32, None, None, mask),
            "maskmm, mask": lambda: maskmm.block_masked_mm(a, b, 32, None, None, mask),
            "maskmm, mask, requires grad": lambda: maskmm.block_masked_mm(a, weight, 32, None, None, mask),
        },
        torch.cuda.synchronize if device == "cuda" else lambda: None,
    )


def jax_calls() -> dict[str, float]:
    jax, jnp, front = load("jax"), load("jax.numpy"), load("maskmm.jax")

    a = b = jnp.ones((64, 64), jnp.float32)
    mask = jnp.ones((2, 2), bool)
    dense = jax.jit(lambda a, b: a @ b)
    plain = jax.jit(lambda a, b: front.block_masked_mm(a, b, 32))
    masked = jax.jit(lambda a, b, mask: front.block_masked_mm(a, b, 32, None, None, mask))
    calls: Calls = {
        "a @ b": lambda: dense(a, b),
        "no mask": lambda: plain(a, b),
        "mask": lambda: masked(a, b, mask),
    }
    return microseconds(calls, lambda: jax.block_until_ready([call() for call in calls.values()]))


def milliseconds(device: str, calls: Calls, rounds: int = 15) -> dict[str, float]:
    """Medians of single calls that take turns; on a GPU between two events."""
    torch = load("torch")
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 2):
        for name, call in calls.items():
            if device == "cuda":
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                torch.cuda.synchronize()
                begin.record()
                call()
                end.record()
                torch.cuda.synchronize()
                elapsed = begin.elapsed_time(end)
            else:
                start = time.perf_counter()
                call()
                elapsed = (time.perf_counter() - start) * 1e3
            if number >= 2:  # the first ones warm up
                times[name].append(elapsed)
    return {name: statistics.median(values) for name, values in times.items()}


def microseconds(
    calls: Calls, wait: Callable[[], Any], rounds: int = 40, repeats: int = 200
) -> dict[str, float]:
    """Medians of the host's time of a call, of `repeats` in a row, between which nothing is waited for."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            wait()
            start = time.perf_counter()
            for _ in range(repeats):
                call()
            if number:
                times[name].append((time.perf_counter() - start) / repeats * 1e6)
    return {name: statistics.median(values) for name, values in times.items()}


def load(module: str) -> Any:
    return importlib.import_module(module)


def version(package: str) -> str:
    return str(load(package).__version__) if importlib.util.find_spec(package) else ""


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()


def report() -> str:
    parts = [HOW]
    for path in sorted(RESULTS.glob("*.json")):
        record = json.loads(path.read_text())
        about = [f"{name} {value}" for name, value in record["versions"].items() if value]
        about += [f"{name} {record[name]}" for name in ("commit", "cuda", "threads") if record[name]]
        parts.append(f"## {record['machine']}\n\n{', '.join(about)}\n")
        parts.append("| | | | relative |\n|---|---|---|---|")
        for line in record["lines"]:
            parts += rows(line)
        parts.append("")
    return "\n".join(parts)


def rows(line: dict[str, Any]) -> list[str]:
    """A row for each call; the last column relates it to what it is judged by."""
    times: dict[str, float] = line["times"]
    base_name, base = next(iter(times.items()))
    found = []
    for name, value in times.items():
        relative = ""
        if name == "forward and backward":
            relative = f"{value / (3 * base):.2f} of three products"
        elif line["unit"] == "ms" and name != base_name:
            relative = f"{value / base:.2f} of the product"
        elif name != base_name:
            relative = f"{value - base:+.1f} us"
        found.append(f"| {line['name']} | {name} | {value:.3g} {line['unit']} | {relative} |")
    return found


if __name__ == "__main__":
    sys.exit(main())
