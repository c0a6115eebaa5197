"""The command ``maskmm``: run, info, demo."""

from __future__ import annotations

import importlib
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

import maskmm
from maskmm._files import FileError, Paths, multiply_files

app = typer.Typer(
    help="Matrix products that leave whole blocks out.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


class Precision(StrEnum):
    """Of float32 products."""

    ieee = "ieee"
    tf32 = "tf32"


def main() -> None:
    """The entry point of the command ``maskmm``."""
    app()


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if show:
        print(maskmm.__version__)
        raise typer.Exit


@app.command()
def run(
    a: Annotated[Path, typer.Argument(metavar="A.npy", help="(..., M, K)")],
    b: Annotated[Path, typer.Argument(metavar="B.npy", help="(..., K, N)")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="C.npy", help="Where the result goes.")],
    mask_out: Annotated[Path | None, typer.Option(metavar="NPY", help="Mask of the result's blocks.")] = None,
    mask_lhs: Annotated[Path | None, typer.Option(metavar="NPY", help="Mask of the blocks of A.")] = None,
    mask_rhs: Annotated[Path | None, typer.Option(metavar="NPY", help="Mask of the blocks of B.")] = None,
    block_size: Annotated[
        str,
        typer.Option(
            metavar="SIZE", help="16, 32, 64, 128 or 256; or three of them, M,N,K: --block-size 64,128,32."
        ),
    ] = "64",
    precision: Annotated[
        Precision, typer.Option(help="tf32 allows TF32 tensor cores, where there are any.")
    ] = Precision.ieee,
    bfloat16: Annotated[
        bool,
        typer.Option(
            "--bfloat16",
            help="Two-byte elements without a type are bfloat16: NumPy stores ml_dtypes.bfloat16 so.",
        ),
    ] = False,
) -> None:
    """Multiplies .npy files of any size and writes C.npy.

    The files are mapped, not loaded, and the work is done in slabs of whole rows of blocks. C.npy appears
    when it is
    complete: a run that is interrupted leaves nothing behind.
    """
    paths = Paths(a, b, output, mask_out, mask_lhs, mask_rhs)
    start = time.perf_counter()
    try:
        with _progress_bar() as progress:
            report = multiply_files(
                paths,
                block_size=_parse_block_size(block_size),
                precision=precision.value,
                bfloat16=bfloat16,
                progress=progress,
            )
    except (FileError, ValueError, TypeError, MemoryError, NotImplementedError) as error:
        _fail(str(error), paths)
    what = report.explanation
    print(
        f"{output}: {report.dtype} {report.shape}, {100 * what.live_fraction:.2f} % live, "
        f"{time.perf_counter() - start:.2f} s (kernel: {what.kernel}, threads: {what.threads})"
    )


@app.command()
def info() -> None:
    """Prints the version, the processor, the instruction set, the threads and the devices."""
    try:
        isa, threads = maskmm.cpu_isa(), maskmm.num_threads()
    except (NotImplementedError, ValueError) as error:  # of the environment's variables
        _fail(str(error))
    table = Table(box=None, show_header=False, pad_edge=False)
    devices = ", ".join(f"{device.type.name}:{device.index}" for device in maskmm.devices())
    for name, value in (
        ("maskmm", maskmm.__version__),
        ("Python", f"{platform.python_version()}, NumPy {np.__version__}"),
        ("CPU", _cpu_name()),
        ("ISA", isa),
        ("threads", str(threads)),
        ("devices", devices),
    ):
        table.add_row(f"[bold]{name}[/]", escape(value))
    Console().print(table, highlight=False)


@app.command()
def demo(
    texts: Annotated[int | None, typer.Option(min=1, help="Number of texts.")] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Repeats of every measurement.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer texts, one repeat.")] = False,
    picture: Annotated[Path, typer.Option(help="Where to draw the masks.")] = Path("ragged_batch.png"),
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Do not use the model's weights.")
    ] = False,
) -> None:
    """Computes sentence embeddings of texts of different lengths, dense and masked, and compares the two."""
    try:
        ragged_batch = importlib.import_module("maskmm._examples.ragged_batch")
    except ModuleNotFoundError as error:
        _fail(f"the demo is not installed: {error}")
    ragged_batch.main(
        texts or (ragged_batch.QUICK_TEXTS if quick else None),
        picture,
        repeats or (1 if quick else 3),
        not random_weights,
    )


@contextmanager
def _progress_bar() -> Iterator[Callable[[float], None]]:
    """A function that is told the share of the work that is done. It draws on a terminal only, and only where the
    work takes a while.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda share: None
        return
    start = time.perf_counter()
    columns = (TextColumn("multiplying"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=1.0, visible=False)

        def advance(share: float) -> None:
            bar.update(task, completed=share, visible=time.perf_counter() - start > 0.5)

        yield advance


def _parse_block_size(text: str) -> int | tuple[int, int, int]:
    try:
        sizes = [int(size) for size in text.split(",")]
    except ValueError:
        sizes = []
    match sizes:
        case [size]:
            return size
        case [m, n, k]:
            return m, n, k
    raise ValueError(f"block_size: expected a number or three with commas, got '{text}'")


def _fail(message: str, paths: Paths | None = None) -> NoReturn:
    """Leaves with an error that names the argument and, where it is one, its file."""
    name, _, rest = message.partition(": ")
    path = getattr(paths, name, None)
    if path is not None:
        message = f"{name} ({path}): {rest}"
    Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {escape(message)}", highlight=False)
    raise typer.Exit(2)


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
