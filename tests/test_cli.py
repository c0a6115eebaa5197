"""The command maskmm: products of files, exact messages for bad ones, info and demo."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from maskmm._examples import ragged_batch
from typer.testing import CliRunner

import maskmm
from maskmm import _files
from maskmm.cli import app

Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save(**arrays: Any) -> None:
    for name, elements in arrays.items():
        np.save(f"{name}.npy", elements)


def maskmm_run(arguments: str) -> str:
    """What ``maskmm run`` prints."""
    done = CliRunner().invoke(app, ["run", *arguments.split()], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def error_of(arguments: str) -> str:
    """What ``maskmm run`` says on its way out."""
    done = CliRunner().invoke(app, ["run", *arguments.split()], catch_exceptions=False)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    return done.stderr.strip()


def normal(*shape: int, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


def mask(*shape: int, dtype: Any = np.bool_) -> Array:
    return maskmm.patterns.random(shape, 0.5, seed=sum(shape)).astype(dtype)


def test_a_product_of_files() -> None:
    save(A=normal(200, 150), B=normal(150, 70), L=mask(4, 3), R=mask(3, 2), O=mask(4, 2, dtype=np.float64))
    printed = maskmm_run("A.npy B.npy --mask-lhs L.npy --mask-rhs R.npy --mask-out O.npy -o C.npy")
    assert re.fullmatch(
        r"C\.npy: float32 \(200, 70\), \d+\.\d\d % live, \d+\.\d\d s \(kernel: .+, threads: \d+\)\n", printed
    )
    masks: dict[str, Any] = {
        "mask_lhs": mask(4, 3),
        "mask_rhs": mask(3, 2),
        "mask_out": mask(4, 2, dtype=np.float64),
    }
    expected = maskmm.block_masked_mm(normal(200, 150), normal(150, 70), **masks)
    np.testing.assert_array_equal(np.load("C.npy"), expected, strict=True)
    assert sorted(os.listdir()) == ["A.npy", "B.npy", "C.npy", "L.npy", "O.npy", "R.npy"]


@pytest.mark.parametrize(
    ("a", "b", "options"),
    [
        (np.asfortranarray(normal(100, 60)), normal(60, 40, dtype=np.float64), ""),
        (normal(60), normal(60, 40), ""),
        (normal(100, 60), normal(60), ""),
        (normal(60), normal(60), ""),
        (normal(0, 60), normal(60, 40), ""),
        (normal(100, 60), normal(60, 0), ""),
        (normal(100, 0), normal(0, 40), ""),
        (np.arange(12, dtype=np.int8).reshape(3, 4), normal(4, 5, dtype=np.float16), "--precision tf32"),
        (normal(100, 60), normal(60, 40), "--block-size 16,32,128"),
    ],
    ids=lambda value: f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else value,
)
def test_shapes_types_and_layouts(a: Array, b: Array, options: str) -> None:
    save(A=a, B=b)
    maskmm_run(f"A.npy B.npy {options} -o C.npy")
    size = (16, 32, 128) if "block" in options else 64
    np.testing.assert_array_equal(np.load("C.npy"), maskmm.block_masked_mm(a, b, size), strict=True)


def test_bfloat16_files() -> None:
    a, b = normal(100, 60, dtype=ml_dtypes.bfloat16), normal(60, 40, dtype=ml_dtypes.bfloat16)
    save(A=a, B=b, expected=maskmm.block_masked_mm(a, b))
    assert maskmm_run("A.npy B.npy --bfloat16 -o C.npy").startswith(
        "C.npy: bfloat16 (100, 40), 100.00 % live"
    )
    np.testing.assert_array_equal(np.load("C.npy").view(np.uint16), np.load("expected.npy").view(np.uint16))


def test_the_result_may_take_the_place_of_an_input() -> None:
    save(A=normal(100, 100))
    maskmm_run("A.npy A.npy -o A.npy")
    expected = maskmm.block_masked_mm(normal(100, 100), normal(100, 100))
    np.testing.assert_array_equal(np.load("A.npy"), expected)


SLABBED: list[tuple[Array, Array, dict[str, Any]]] = [
    (normal(5, 3, 100, 60), normal(3, 60, 40), {"mask_lhs": mask(3, 7, 4), "mask_out": mask(5, 1, 1, 3)}),
    (normal(100, 60), normal(4, 60, 40), {"mask_rhs": mask(4, 4, 3), "mask_lhs": mask(2, 1, 1, 4)}),
    (normal(60), normal(6, 60, 40), {"mask_out": mask(3), "mask_lhs": mask(6, 4)}),
    (normal(6, 100, 60), normal(60), {"mask_out": mask(6, 7), "mask_rhs": np.array(True)}),
    (normal(100, 60), normal(60, 40), {"mask_out": mask(7, 3), "mask_lhs": mask(7, 1), "mask_rhs": mask(3)}),
]


@pytest.mark.parametrize("case", range(len(SLABBED)))
@pytest.mark.parametrize("work", [1, 60 * 40 * 16, 60 * 40 * 250])
def test_slabs_give_the_whole(case: int, work: int, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, masks = SLABBED[case]
    monkeypatch.setattr(_files, "SLAB_WORK", work)
    monkeypatch.setattr(_files, "SLAB_ROWS", 32)
    paths = {name: Path(f"{name}.npy") for name in ("a", "b", *masks)}
    save(a=a, b=b, **masks)
    shares: list[float] = []
    report = _files.multiply_files(
        _files.Paths(result=Path("C.npy"), **paths), block_size=16, progress=shares.append
    )
    expected = maskmm.block_masked_mm(a, b, 16, **masks)
    np.testing.assert_allclose(np.load("C.npy"), expected, rtol=1e-5, atol=1e-5)
    assert report.shape == expected.shape
    assert report.explanation == maskmm.explain(a, b, 16, **masks)
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)
    assert len(shares) > 2 or work > 1


def test_slabs_cut_at_blocks_and_not_too_small() -> None:
    cuts = list(_files._cuts((2, 3000), step=1024, work=2**30))
    assert cuts == [
        [slice(i, i + 1), slice(j, min(j + 1024, 3000))] for i in range(2) for j in (0, 1024, 2048)
    ]
    assert list(_files._cuts((10, 64), step=1024, work=2**28)) == [
        [slice(i, i + 1), slice(0, 64)] for i in range(10)
    ]
    assert list(_files._cuts((10, 64), step=1024, work=2**26)) == [
        [slice(i, min(i + 4, 10)), slice(0, 64)] for i in (0, 4, 8)
    ]


BAD_FILES = {
    "empty.npy": b"",
    "text.npy": b"1 2 3\n4 5 6\n",
    "archive.npz": b"PK\x03\x04 and so on",
    "header.npy": b"\x93NUMPY\x01\x00\x10\x00{'descr': ['what'",
    "no_header.npy": b"\x93NUMPY\x01\x00",
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("none.npy B.npy", "none.npy: No such file or directory"),
        ("A.npy none.npy", "none.npy: No such file or directory"),
        ("A.npy B.npy --mask-rhs none.npy", "none.npy: No such file or directory"),
        (". B.npy", ".: Is a directory"),
        ("empty.npy B.npy", "empty.npy: not a .npy file"),
        ("text.npy B.npy", "text.npy: not a .npy file"),
        ("archive.npz B.npy", "archive.npz: not a .npy file"),
        ("cut.npy B.npy", "cut.npy: cannot be mapped: mmap length is greater than file size"),
        ("header.npy B.npy", "header.npy: cannot be mapped: *"),
        ("no_header.npy B.npy", "no_header.npy: cannot be mapped: *"),
        ("objects.npy B.npy",
         "objects.npy: cannot be mapped: Array can't be memory-mapped: Python objects in dtype."),
        ("bfloat16.npy B.npy",
         "bfloat16.npy: elements of two bytes without a type; if they are bfloat16, pass --bfloat16"),
        ("text_array.npy B.npy", "a (text_array.npy): expected float16, bfloat16, float32 or float64, got <U1"),
        ("A.npy foreign.npy", "b (foreign.npy): expected float16, bfloat16, float32 or float64, got >f4"),
        ("A.npy A.npy", "b (A.npy): expected (..., 60, N) to match a of shape (100, 60), got (100, 60)"),
        ("A.npy B.npy --mask-lhs L.npy",
         "mask_lhs (L.npy): expected (..., 2, 1) for block_size 64, got (2, 2)"),
        ("A.npy B.npy --mask-out B.npy",
         "mask_out (B.npy): expected (..., 2, 1) for block_size 64, got (60, 40)"),
        ("L.npy L.npy",
         "a, b: expected float16, bfloat16, float32 or float64 for at least one of them, got bool and bool"),
        ("A.npy B.npy --block-size 48",
         "block_size: expected 16, 32, 64, 128 or 256, or three of them (m, n, k), got 48"),
        ("A.npy B.npy --block-size big", "block_size: expected a number or three with commas, got 'big'"),
        ("A.npy B.npy --block-size 64,64", "block_size: expected a number or three with commas, got '64,64'"),
        ("A.npy B.npy -o nowhere/C.npy", "nowhere/C.npy: No such file or directory"),
        ("A.npy B.npy -o .", ".: Is a directory"),
    ],
)  # fmt: skip
def test_errors(arguments: str, message: str) -> None:
    save(A=normal(100, 60), B=normal(60, 40), L=mask(2, 2), objects=np.array([None, 1]))
    save(bfloat16=normal(100, 60, dtype=ml_dtypes.bfloat16), foreign=normal(60, 40, dtype=">f4"))
    save(text_array=np.array([["x"]]))
    for name, content in BAD_FILES.items():
        Path(name).write_bytes(content)
    Path("cut.npy").write_bytes(Path("A.npy").read_bytes()[:1000])
    before = sorted(os.listdir())
    found = error_of(arguments if " -o " in arguments else f"{arguments} -o C.npy")
    if message.endswith("*"):  # goes on in NumPy's words
        assert found.startswith(f"error: {message[:-1]}")
    else:
        assert found == f"error: {message}"
    assert sorted(os.listdir()) == before


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    save(A=normal(100, 100))
    assert error_of("A.npy A.npy -o C.npy") == "error: C.npy: No space left on device"
    assert os.listdir() == ["A.npy"]


def test_nothing_half_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(share: float) -> None:
        assert not Path("C.npy").exists()
        if share > 0:
            raise KeyboardInterrupt

    save(A=normal(100, 100))
    with pytest.raises(KeyboardInterrupt):
        _files.multiply_files(_files.Paths(Path("A.npy"), Path("A.npy"), Path("C.npy")), progress=interrupted)
    assert os.listdir() == ["A.npy"]


def test_info() -> None:
    done = CliRunner().invoke(app, ["info"], catch_exceptions=False)
    assert done.exit_code == 0
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert list(lines) == ["maskmm", "Python", "CPU", "ISA", "threads", "devices"]
    assert lines["maskmm"].strip() == maskmm.__version__
    assert lines["ISA"].strip() == maskmm.cpu_isa()
    assert int(lines["threads"]) == maskmm.num_threads()
    assert lines["devices"].startswith("cpu:0")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", (None, Path("ragged_batch.png"), 3, True)),
        ("--quick", (ragged_batch.QUICK_TEXTS, Path("ragged_batch.png"), 1, True)),
        ("--quick --texts 5 --repeats 2 --picture p.png", (5, Path("p.png"), 2, True)),
        ("--random-weights", (None, Path("ragged_batch.png"), 3, False)),
    ],
)
def test_demo(arguments: str, expected: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo itself is tested elsewhere."""
    received: list[tuple[Any, ...]] = []
    monkeypatch.setattr(ragged_batch, "main", lambda *values: received.append(values))
    done = CliRunner().invoke(app, ["demo", *arguments.split()], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert received == [expected]


def test_version_and_help() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"{maskmm.__version__}\n"
    for arguments in ([], ["--help"], ["run", "--help"], ["demo", "--help"]):
        assert "Usage:" in CliRunner().invoke(app, arguments).output


def test_as_a_program() -> None:
    save(A=normal(64, 64))
    program = [sys.executable, "-m", "maskmm"]
    for arguments, status in (("A.npy A.npy -o C.npy", 0), ("A.npy B.npy -o C.npy", 2), ("A.npy", 2)):
        done = subprocess.run(
            [*program, "run", *arguments.split()], capture_output=True, text=True, check=False
        )
        assert done.returncode == status
        assert "Traceback" not in done.stdout + done.stderr
        assert bool(done.stderr) == (status != 0)


def test_an_unknown_instruction_set() -> None:
    save(A=normal(64, 64))
    environment = {**os.environ, "MASKMM_ISA": "fast"}
    for arguments in (["info"], ["run", "A.npy", "A.npy", "-o", "C.npy"]):
        done = subprocess.run(
            [sys.executable, "-m", "maskmm", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert done.stderr.startswith("error: MASKMM_ISA: expected one of ")
        assert done.stderr.endswith(", got fast\n")
