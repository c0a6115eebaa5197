"""BlockMaskedLinear, and masks as tensors."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import maskmm
from maskmm.torch import BlockMaskedLinear, patterns
from torch_dense import DEVICES, numbers

pytestmark = pytest.mark.parametrize("device", DEVICES)


def pair(device: str, dtype: Any = torch.float64, **more: Any) -> tuple[BlockMaskedLinear, torch.nn.Linear]:
    """A layer, and a dense one of the same weights."""
    layer = BlockMaskedLinear(100, 70, block_size=(32, 16), device=device, dtype=dtype, **more)
    dense = torch.nn.Linear(100, 70, layer.bias is not None, device=device, dtype=dtype)
    with torch.no_grad():
        dense.weight.copy_(layer.weight)
        if layer.bias is not None:
            dense.bias.copy_(layer.bias)
    return layer, dense


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(100,), (9, 100), (2, 3, 5, 100), (0, 100)])
def test_it_is_a_linear_layer(device: str, shape: tuple[int, ...], bias: bool) -> None:
    layer, dense = pair(device, bias=bias, density=0.4)
    x = numbers(*shape, device=device)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, expected = layer(ours), dense(theirs)
    torch.testing.assert_close(y, expected)
    cotangent = numbers(*y.shape, device=device, seed=3)
    y.backward(cotangent)
    expected.backward(cotangent)
    torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(layer.weight.grad, torch.where(layer.element_mask(), dense.weight.grad, 0))
    if bias:
        torch.testing.assert_close(layer.bias.grad, dense.bias.grad)
    assert layer.weight.grad.is_contiguous()


def test_dropped_weights_stay_as_they_are(device: str) -> None:
    layer, _ = pair(device, density=0.3)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    dead = ~layer.element_mask()
    assert not layer.weight[dead].any()
    with torch.no_grad():
        layer.weight[dead] = torch.nan
    for _ in range(3):
        optimizer.zero_grad()
        layer(numbers(8, 100, device=device)).square().sum().backward()
        assert not layer.weight.grad[dead].any()
        optimizer.step()
    assert layer.weight[dead].isnan().all()
    assert layer.weight[~dead].isfinite().all()


def test_from_linear_keeps_the_largest_blocks(device: str) -> None:
    dense = torch.nn.Linear(64, 48, device=device, dtype=torch.float64)
    with torch.no_grad():
        dense.weight.copy_(0.01 * numbers(48, 64, device=device))
        dense.weight[16:32, 32:] += 5
        dense.weight[32:, :32] -= 7
    layer = BlockMaskedLinear.from_linear(dense, density=1 / 3, block_size=(16, 32))
    assert layer.block_mask.tolist() == [[False, False], [False, True], [True, False]]
    assert torch.equal(layer.weight, torch.where(layer.element_mask(), dense.weight, 0))
    assert torch.equal(layer.bias, dense.bias)
    assert layer.weight.device == dense.weight.device
    assert BlockMaskedLinear.from_linear(dense, 0.0).density == 0
    whole = BlockMaskedLinear.from_linear(dense, 1.0, 16)
    x = numbers(5, 64, device=device)
    torch.testing.assert_close(whole(x), dense(x))
    bare = BlockMaskedLinear.from_linear(torch.nn.Linear(64, 48, bias=False, dtype=torch.bfloat16), 0.5)
    assert bare.bias is None
    assert bare.weight.dtype == torch.bfloat16
    with torch.no_grad():
        dense.weight.mul_(1e30)  # whose squares float32 does not hold
    assert torch.equal(BlockMaskedLinear.from_linear(dense, 1 / 3, (16, 32)).block_mask, layer.block_mask)
    # The mean square decides: a partial block is not smaller for having fewer elements.
    ragged = torch.nn.Linear(33, 16, device=device)
    with torch.no_grad():
        ragged.weight.fill_(1.0)
        ragged.weight[:, 32:] = 1.1
    assert BlockMaskedLinear.from_linear(ragged, 0.5, (16, 32)).block_mask.tolist() == [[False, True]]


def test_state_and_moves(device: str) -> None:
    layer, _ = pair(device, torch.float32, density=0.4)
    other = BlockMaskedLinear(100, 70, block_size=(32, 16), device=device)
    other.load_state_dict(layer.state_dict())
    x = numbers(6, 100, device=device, dtype=torch.float32)
    assert torch.equal(other(x), layer(x))
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))
    low = copy.deepcopy(layer).to(torch.bfloat16)
    assert low.block_mask.dtype == torch.bool
    assert low(x.bfloat16()).dtype == torch.bfloat16
    moved = copy.deepcopy(layer).to("cpu")
    torch.testing.assert_close(moved(x.cpu()), layer(x).cpu())
    assert {name for name, _ in layer.named_buffers()} == {"block_mask"}
    assert repr(layer) == (
        "BlockMaskedLinear(in_features=100, out_features=70, bias=True, block_size=(32, 16), density=0.381)"
    )
    with torch.no_grad():
        layer.block_mask.zero_()
    assert torch.equal(layer(x), layer.bias.expand(6, 70))


def test_wrong_arguments(device: str) -> None:
    wrong = torch.ones(2, 2, dtype=torch.bool, device=device)
    with pytest.raises(
        ValueError, match=r"^block_mask: expected \(3, 7\) of torch\.bool for block_size \(32, 16\), "
    ):
        BlockMaskedLinear(100, 70, block_size=(32, 16), block_mask=wrong)
    for mask, kind in ((np.ones((3, 7), bool), "ndarray"), ([[True]], "list"), (True, "bool")):
        with pytest.raises(TypeError, match=rf"^block_mask: expected a torch\.Tensor, got {kind}$"):
            BlockMaskedLinear(100, 70, block_size=(32, 16), block_mask=mask)
    layer, dense = pair(device)
    with pytest.raises(TypeError, match=r"^x: expected a torch\.Tensor, got ndarray$"):
        layer(np.ones((5, 100)))
    with pytest.raises(ValueError, match=r"^x: expected \(\.\.\., 100\), got \(5, 99\)$"):
        layer(torch.ones(5, 99, device=device))
    with pytest.raises(
        TypeError, match=r"^x: expected a tensor with strided elements in memory, got a nested one$"
    ):
        layer(torch.nested.nested_tensor([torch.ones(5, 100, device=device)], layout=torch.jagged))
    with pytest.raises(ValueError, match=r"^density: expected 0 to 1, got 2$"):
        BlockMaskedLinear.from_linear(dense, 2)
    with pytest.raises(TypeError, match=r"^linear: expected a torch\.nn\.Linear, got Identity$"):
        BlockMaskedLinear.from_linear(torch.nn.Identity(), 0.5)
    with pytest.raises(TypeError, match=r"^lengths: expected a torch\.Tensor, got list$"):
        patterns.from_sequence_lengths([3], 64)
    assert BlockMaskedLinear(100, 70, block_size=(np.int64(32), 16)).block_size == (32, 16)


NO_SIZE = "block_size: expected an int or a tuple of two ints (rows, columns), got"
SIZES = "block_size: expected 16, 32, 64, 128 or 256, got"


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"block_size": (64,)}, TypeError, f"{NO_SIZE} (64,)"),
        ({"block_size": "a"}, TypeError, f"{NO_SIZE} str"),
        ({"block_size": 64.0}, TypeError, f"{NO_SIZE} float"),
        ({"block_size": True}, TypeError, f"{NO_SIZE} bool"),
        ({"block_size": (16, None)}, TypeError, f"{NO_SIZE} (16, None)"),
        ({"block_size": 0}, ValueError, f"{SIZES} 0"),
        ({"block_size": (64, 17)}, ValueError, f"{SIZES} 17"),
        ({"precision": "fast"}, ValueError, "precision: expected 'ieee' or 'tf32', got 'fast'"),
        ({"density": 2}, ValueError, "density: expected 0 to 1, got 2"),
    ],
)
def test_wrong_settings(device: str, more: Any, error: type[Exception], message: str) -> None:
    dense = torch.nn.Linear(64, 64, device=device)
    for make in (
        lambda: BlockMaskedLinear(64, 64, device=device, **more),
        lambda: BlockMaskedLinear.from_linear(dense, **{"density": 0.5, **more}),
    ):
        with pytest.raises(error) as raised:
            make()
        assert str(raised.value) == message


@pytest.mark.parametrize("shape", [(0, 64), (64, 0), (0, 0)])
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_empty(device: str, shape: tuple[int, int]) -> None:
    inputs, outputs = shape
    dense = torch.nn.Linear(inputs, outputs, device=device)
    for layer in (
        BlockMaskedLinear(inputs, outputs, device=device),
        BlockMaskedLinear.from_linear(dense, 0.5),
    ):
        assert repr(layer).endswith("density=0.000)")
        for batch in ((), (3,), (2, 0), (2, 3)):
            x = torch.ones(*batch, inputs, device=device, requires_grad=True)
            y = layer(x)
            assert torch.equal(y, layer.bias.expand(*batch, outputs))
            y.sum().backward()
            assert x.grad is not None
            assert not x.grad.any()


def test_meta_and_fakes(device: str) -> None:
    layer = BlockMaskedLinear(100, 70, device="meta")
    assert (
        repr(layer) == "BlockMaskedLinear(in_features=100, out_features=70, bias=True, block_size=(64, 64))"
    )
    assert layer(torch.ones(3, 100, device="meta")).shape == (3, 70)
    original = BlockMaskedLinear(100, 70, device=device)
    loaded = layer.to_empty(device=device)
    loaded.load_state_dict(original.state_dict())
    x = numbers(3, 100, device=device, dtype=torch.float32)
    assert torch.equal(loaded(x), original(x))
    with FakeTensorMode():
        fake = BlockMaskedLinear(100, 70, device=device)
        assert fake(torch.ones(3, 100, device=device)).shape == (3, 70)


def test_autocast(device: str) -> None:
    layer, dense = pair(device, torch.float32)
    x = numbers(6, 100, device=device, dtype=torch.float32)
    with torch.autocast(device, torch.bfloat16):
        y, expected = layer(x), dense(x)
    assert y.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(y, expected, rtol=2e-2, atol=2e-2)
    y.sum().backward()
    assert layer.bias.grad.dtype == torch.float32


def test_initial_numbers(device: str) -> None:
    torch.manual_seed(1)
    layer = BlockMaskedLinear(1024, 1024, density=0.25, device=device)
    live = layer.weight[layer.element_mask()]
    for x in (live, layer.bias):
        assert 0.9 / 16 < x.abs().max() <= 1 / 16
    assert live.numel() == layer.weight.count_nonzero()


def test_it_compiles(device: str) -> None:
    layer, _ = pair(device, torch.float32)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = numbers(6, 100, device=device, dtype=torch.float32).requires_grad_()
    (expected,) = torch.autograd.grad(layer(x).square().sum(), x)
    assert torch.equal(torch.autograd.grad(compiled(x).square().sum(), x)[0], expected)


@pytest.mark.parametrize(("name", "arguments", "keywords"), [
    ("causal", (5,), {}), ("causal", (3, 7), {}), ("causal", (7, 3), {}), ("causal", (0, 3), {}),
    ("band", (6,), {}), ("band", (6, 4), {"below": 2, "above": 0}), ("band", (4, 6), {"below": 0}),
    ("diagonal_groups", (6,), {"groups": 3}), ("diagonal_groups", (5, 7), {"groups": 3}),
    ("diagonal_groups", (0,), {"groups": 1}),
])  # fmt: skip
def test_patterns(device: str, name: str, arguments: Any, keywords: Any) -> None:
    mask = getattr(patterns, name)(*arguments, **keywords, device=device)
    assert mask.device.type == device
    np.testing.assert_array_equal(mask.cpu(), getattr(maskmm.patterns, name)(*arguments, **keywords))
    with pytest.raises(ValueError, match=r"^n_rows: expected at least 0, got -1$"):
        getattr(patterns, name)(-1, **keywords, device=device)


def test_sequence_lengths(device: str) -> None:
    lengths = [0, 1, 64, 65, 200]
    mask = patterns.from_sequence_lengths(torch.tensor(lengths, device=device), 200)
    np.testing.assert_array_equal(mask.cpu(), maskmm.patterns.from_sequence_lengths(lengths, 200))
    assert patterns.from_sequence_lengths(
        torch.zeros(2, 3, dtype=torch.int32, device=device), 100, 32
    ).shape == (2, 3, 4)
    with pytest.raises(TypeError, match=r"^lengths: expected integers, got torch\.float32$"):
        patterns.from_sequence_lengths(torch.ones(3, device=device), 100)


def test_random(device: str) -> None:
    generator = torch.Generator(device).manual_seed(3)
    mask = patterns.random((9, 11), 0.3, generator=generator, device=device)
    assert mask.shape == (9, 11)
    assert int(mask.sum()) == round(0.3 * 99)
    again = patterns.random((9, 11), 0.3, generator=torch.Generator(device).manual_seed(3), device=device)
    assert torch.equal(mask, again)
    assert patterns.random(5, 1.0, device=device).all()
    with pytest.raises(ValueError, match=r"^density: expected 0 to 1, got 1\.5$"):
        patterns.random(5, 1.5)
