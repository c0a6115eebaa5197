"""What ragged_batch.py shows: a table of times, a table of distances and a picture of the masks."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

import maskmm

if TYPE_CHECKING:
    from .ragged_batch import Batch

LINEAR, SCORES, ATTEND = PRODUCTS = ("x W", "Q Kᵀ", "P V")
WHOLE = "whole encoder"


@dataclass
class Tally:
    """What one kind of product took: seconds, and multiply-adds in live blocks and in all blocks."""

    seconds: float = 0.0
    live: float = 0.0
    total: float = 0.0


Tallies = defaultdict[str, Tally]  # by kind: PRODUCTS and WHOLE
Runs = dict[str, dict[str, list[Tallies]]]  # by layout and by "dense" or "masked": one for each repeat


def times_table(runs: Runs) -> Table:
    """Medians of the repeats."""
    table = Table(title="medians; x = masked / (live fraction · dense)", box=SIMPLE_HEAD, pad_edge=False)
    for column in ("layout", "what", "live", "dense ms", "masked ms", "speed-up", "x"):
        table.add_column(column, justify="left" if column in ("layout", "what") else "right", no_wrap=True)
    groups = {kind: (kind,) for kind in PRODUCTS} | {"all products": PRODUCTS, WHOLE: (WHOLE,)}
    for layout, run in runs.items():
        for what, kinds in groups.items():
            dense, masked = median_ms(run["dense"], kinds), median_ms(run["masked"], kinds)
            live, x = "", ""
            if what != WHOLE:
                fraction = live_fraction(run["masked"][0], kinds)
                live, x = f"{fraction:.1%}", f"{masked / (fraction * dense):.2f}"
            table.add_row(layout, what, live, f"{dense:.0f}", f"{masked:.0f}", f"{dense / masked:.2f}", x)
        table.add_section()
    return table


def median_ms(repeats: list[Tallies], kinds: Sequence[str]) -> float:
    return 1e3 * float(np.median([sum(tallies[kind].seconds for kind in kinds) for tallies in repeats]))


def live_fraction(tallies: Tallies, kinds: Sequence[str]) -> float:
    return sum(tallies[kind].live for kind in kinds) / sum(tallies[kind].total for kind in kinds)


def draw(padded: Batch, packed: Batch, block: int, path: Path) -> None:
    """A picture of one batch of each layout: live blocks light, what they are live for dark."""
    from matplotlib.figure import Figure  # type: ignore[import-not-found, unused-ignore]

    corner = 512
    figure = Figure(figsize=(15, 5.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    shades = {"cmap": "Blues", "vmin": 0, "vmax": 2, "interpolation": "nearest"}

    rows = padded.token_mask(block)
    shown = rows.repeat(block, axis=1).astype(np.uint8)
    for _, row, start, stop in padded.spans:
        shown[row, start:stop] = 2
    left.imshow(shown, aspect="auto", **shades)
    left.set(title=f"x W, padded: {rows.mean():.0%} live", xlabel="token", ylabel="text")

    pairs = packed.attention_mask(block)[0]
    middle.imshow(pairs, extent=(0, packed.length, packed.length, 0), **shades)
    middle.set(title=f"Q Kᵀ and P V, packed: {pairs.mean():.1%} live", xlabel="key", ylabel="query")

    shown = pairs.repeat(block, axis=0).repeat(block, axis=1).astype(np.uint8)
    for _, _, start, stop in packed.spans:
        shown[start:stop, start:stop] = 2
    right.imshow(shown[:corner, :corner], **shades)
    right.set(title="its corner; dark: pairs of one text", xlabel="key", ylabel="query")
    figure.savefig(path, dpi=110)


def libraries() -> str:
    """Who does the products, with how many threads: two lines."""
    blas = "threadpoolctl, if installed, tells its BLAS"
    with suppress(ImportError):
        import threadpoolctl  # type: ignore[import-not-found, unused-ignore]

        for pool in threadpoolctl.threadpool_info():
            if pool["user_api"] == "blas":
                kernel = pool.get("architecture", "")
                blas = f"{pool['internal_api']} {pool['version']}, {kernel}, {pool['num_threads']} threads"
    return (
        f"dense: NumPy {np.__version__} ({blas})\n"
        f"masked: maskmm {maskmm.__version__} ({maskmm.cpu_isa()}, {maskmm.num_threads()} threads)"
    )


def caveats() -> Iterator[str]:
    """What makes the times of this run say less than they could."""
    for variable in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "MASKMM_ISA"):
        if variable in os.environ:
            yield f"{variable} is set: products may not run as fast as they can"
    load, processors = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load > processors:
        yield f"load {load:.1f} on {processors} processors: NumPy's threads suffer from it more than maskmm's"
