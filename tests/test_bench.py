"""The benchmark runs, verifies and reports. Nothing here looks at a time."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"


def run(script: str, *arguments: str) -> str:
    command = [sys.executable, str(BENCH / script), *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of the smallest cases, on one thread."""
    folder = tmp_path_factory.mktemp("results")
    common = ("--threads", "1", "--rounds", "2", "--peers", "own,openblas")
    run(
        "run.py",
        "--suite",
        "tiny",
        "--filter",
        "16x16x16|128x128x128",
        *common,
        "--output",
        str(folder / "tiny.json"),
    )
    run("run.py", "--suite", "batches", "--filter", "128x128x128 b32 lhs d=0.1", *common,
        "--output", str(folder / "batches.json"))  # fmt: skip
    return folder


def test_a_run_records_what_ran_and_where(results: Path) -> None:
    record: dict[str, Any] = json.loads((results / "tiny.json").read_text())
    assert record["machine"]["cpu"]
    assert record["machine"]["threads"] == 1
    assert set(record["peers"]) == {"own", "openblas"}
    assert "OPENBLAS_CORETYPE" not in record["environment"]
    assert [case["pattern"] for case in record["cases"]] == ["lhs", "rhs", "out"] * 2
    for case in record["cases"]:
        assert case["live_fraction"] == 1
        assert case["best_dense"] == "openblas"
        assert case["times"]["own"]["runs"] == 2
        own, dense = (case["times"][name]["median"] for name in ("own", "openblas"))
        assert case["x"] == pytest.approx(own / dense, rel=1e-4)


def test_x_counts_the_live_triples(results: Path) -> None:
    (case,) = json.loads((results / "batches.json").read_text())["cases"]
    assert case["live_fraction"] == pytest.approx(0.1, abs=0.001)
    own, dense = (case["times"][name]["median"] for name in ("own", "openblas"))
    assert case["x"] == pytest.approx(own / (case["live_fraction"] * dense), rel=1e-4)


def test_wrong_results_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCH)
    measure, base = importlib.import_module("measure"), importlib.import_module("peers.base")
    a, b = np.ones((64, 64), np.float32), np.ones((64, 32), np.float32)
    mask = np.array([[True, False], [False, False]])
    problem = base.Problem(a, b, np.zeros((64, 32), np.float32), (32, 32, 32), mask_lhs=mask)
    right = np.zeros((64, 32), np.float32)
    right[:32] = 32
    oracle = measure.Oracle(problem)
    oracle.check(right, strict=True)
    for index, value in (((0, 0), 32.001), ((31, 31), np.nan), ((32, 0), 1e-30), ((63, 31), -0.0)):
        wrong = right.copy()
        wrong[index] = value
        with pytest.raises(measure.WrongResult, match=re.escape(f"1 of 2048 elements are wrong; {index}")):
            oracle.check(wrong, strict=True)


def test_the_report_fills_the_readme_and_is_stable(results: Path, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("before\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nafter\n")
    arguments = ("--results", str(results), "--root", str(tmp_path))
    run("report.py", *arguments)
    readme = (tmp_path / "README.md").read_text()
    assert readme.startswith("before\n<!-- bench:begin -->\n")
    assert readme.endswith("<!-- bench:end -->\nafter\n")
    assert "old" not in readme
    assert "float32 16x16x16 b16 lhs d=1" in (tmp_path / "docs" / "benchmarks.md").read_text()
    run("report.py", "--check", *arguments)


def test_the_page_of_gpus_fits_its_files() -> None:
    run("cuda/gpu_report.py", "--check")


def test_the_page_of_fronts_fits_its_files_and_its_calls_run(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    run("fronts.py", "--report", "--check")
    run("fronts.py", str(tmp_path / "out.json"), "--only", "torch call")
    (line,) = json.loads((tmp_path / "out.json").read_text())["lines"]
    assert len(line["times"]) == 6


def test_the_list_names_suites_and_peers() -> None:
    text = run("run.py", "--list")
    for name in ("quick", "cpu", "own", "openblas"):
        assert f"\n  {name} " in text
    assert "float32 2048x2048x2048 b64 lhs d=0.5 NT" in run("run.py", "--list", "--suite", "layouts")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--suite", "fast"), "unknown suite 'fast'; there are: quick, cpu, "),
        (("--peers", "cray"), "unknown peer 'cray'; there are: own, openblas, "),
        (("--threads", "0"), "--threads: expected 1 to "),
        (("--filter", "nothing like it"), "no case is left; see --list"),
    ],
)
def test_wrong_arguments_are_explained(arguments: tuple[str, ...], message: str) -> None:
    command = [sys.executable, str(BENCH / "run.py"), *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 1
    assert message in finished.stderr
