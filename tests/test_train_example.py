"""The training example, shortened: gradients are those of the dense masked model, losses fall, a picture is drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from maskmm._examples import train_block_sparse as example


def test_gradients_step_by_step() -> None:
    assert example.check_gradients(example.Text("cpu"), "cpu", steps=10) < 1e-10


def test_a_wrong_gradient_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = example.BlockMaskedLinear
    monkeypatch.setattr(
        layer, "forward", lambda self, x: torch.nn.functional.linear(x, self.weight, self.bias)
    )
    with pytest.raises(ArithmeticError, match="gradients differ by"):
        example.check_gradients(example.Text("cpu"), "cpu", steps=2)


def test_short_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "losses.png"
    runs = example.main(steps=12, picture=picture, device="cpu", batch=2, checked_steps=1)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [run.density for run in runs] == [1.0, 0.5, 0.25]
    assert runs[0].total > runs[1].touched > runs[2].touched
    for run in runs:
        assert run.losses[-1] < run.losses[0]
        assert run.tokens > 0
    printed = capsys.readouterr().out
    assert "gradients against the dense masked model, 1 steps in float64: within" in printed
    assert "tokens/s" in printed


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match=r"^steps and batch: expected at least 1, got 0, 10 and 16$"):
        example.main(steps=0, device="cpu")
