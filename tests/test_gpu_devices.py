"""More than one GPU; collected where there are two (conftest.py)."""

from __future__ import annotations

import re
import threading
from typing import Any

import numpy as np
import pytest

import maskmm
from case_builders import Call, product
from gpu_arrays import FRAMEWORKS, load, to_numpy, to_torch, usable
from oracle import BFLOAT16, check_result, evaluate

torch = load("torch")
RNG = np.random.default_rng(23)
TYPES = [np.dtype(np.float32), BFLOAT16]


def on(device: str, call: Call) -> tuple[Any, ...]:
    masks = (None if mask is None else to_torch(mask, device) for mask in call.masks())
    return to_torch(call.a, device), to_torch(call.b, device), call.block_size, *masks


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("side", [300, 1024], ids=str)
def test_each_gpu_gives_the_same_bits(dtype: np.dtype[Any], side: int) -> None:
    """The current device is the first one throughout, and stays so."""
    call = product(RNG, side, side, side, 64, dtype=dtype)
    first, second = (maskmm.block_masked_mm(*on(device, call)) for device in ("cuda:0", "cuda:1"))
    assert (first.device.index, second.device.index, torch.cuda.current_device()) == (0, 1, 0)
    assert torch.equal(first.cpu(), second.cpu())
    check_result(to_numpy(second), evaluate(call.a, call.b, call.block_size, *call.masks()))


def test_a_current_device_that_is_not_that_of_the_tensors() -> None:
    call = product(RNG, 200, 200, 200, 32)
    expected = maskmm.block_masked_mm(*on("cuda:0", call))
    with torch.cuda.device(1):
        result = maskmm.block_masked_mm(*on("cuda:0", call))
        assert torch.cuda.current_device() == 1
    assert torch.equal(result, expected)


def test_threads_on_both() -> None:
    call = product(RNG, 512, 512, 512, 64, dtype=BFLOAT16)
    arguments = [on(device, call) for device in ("cuda:0", "cuda:1")]
    expected = maskmm.block_masked_mm(*arguments[0]).cpu()
    wrong: list[int] = []

    def run(index: int) -> None:
        for _ in range(50):
            if not torch.equal(maskmm.block_masked_mm(*arguments[index]).cpu(), expected):
                wrong.append(index)

    threads = [threading.Thread(target=run, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_streams_and_graphs_of_the_second() -> None:
    arguments = on("cuda:1", product(RNG, 256, 256, 256, 32))
    expected = maskmm.block_masked_mm(*arguments)
    stream = torch.cuda.Stream("cuda:1")
    stream.wait_stream(torch.cuda.current_stream("cuda:1"))
    result = maskmm.block_masked_mm(*arguments, stream=stream)
    stream.synchronize()
    assert torch.equal(result, expected)
    own = maskmm.new_stream(maskmm.Device(maskmm.gpu, 1))
    result = maskmm.block_masked_mm(*arguments, stream=own)
    torch.cuda.synchronize(1)
    assert torch.equal(result, expected)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(1), torch.cuda.graph(graph):
        captured = maskmm.block_masked_mm(*arguments)
    captured.zero_()
    graph.replay()
    torch.cuda.synchronize(1)
    assert torch.equal(captured, expected)


def test_gradients_on_the_second() -> None:
    a, b, block, *masks = on("cuda:1", product(RNG, 200, 150, 130, 32))
    a.requires_grad_(), b.requires_grad_()
    maskmm.block_masked_mm(a, b, block, *masks).sum().backward()
    assert a.grad.device == b.grad.device == a.device
    first = [x.detach().to("cuda:0").requires_grad_() for x in (a, b)]
    maskmm.block_masked_mm(*first, block, *(mask.to("cuda:0") for mask in masks)).sum().backward()
    assert torch.equal(a.grad.cpu(), first[0].grad.cpu())
    assert torch.equal(b.grad.cpu(), first[1].grad.cpu())


@pytest.mark.parametrize("name", ["b", "mask_lhs", "out"])
def test_operands_on_two_gpus_are_refused(name: str) -> None:
    def x(argument: str) -> Any:
        return torch.ones(64, 64, device="cuda:1" if argument == name else "cuda:0")

    mask, out = x("mask_lhs")[:1, :1].bool(), x("out")
    message = f"{name}: expected an array on gpu:0 as a is, got one on gpu:1"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        maskmm.block_masked_mm(x("a"), x("b"), mask_lhs=mask, out=out)


def test_numpy_arrays_on_the_second() -> None:
    call = product(RNG, 200, 150, 130, 32)
    results = [
        maskmm.block_masked_mm(call.a, call.b, 32, *call.masks(), stream=maskmm.Device(maskmm.gpu, index))
        for index in (0, 1)
    ]
    assert results[0].tobytes() == results[1].tobytes()


@pytest.mark.skipif(not all(map(usable, FRAMEWORKS)), reason="CuPy or JAX is not installed")
def test_other_frameworks_on_the_second() -> None:
    call = product(RNG, 200, 150, 130, 32)
    expected = to_numpy(maskmm.block_masked_mm(*on("cuda:1", call)))
    cupy, jax = load("cupy"), load("jax")
    with cupy.cuda.Device(1):
        arrays = [None if x is None else cupy.asarray(x) for x in (call.a, call.b, *call.masks())]
    result = maskmm.block_masked_mm(*arrays[:2], 32, *arrays[2:])
    assert result.device.id == 1
    assert cupy.asnumpy(result).tobytes() == expected.tobytes()
    device = jax.devices("gpu")[1]
    arrays = [None if x is None else jax.device_put(x, device) for x in (call.a, call.b, *call.masks())]
    result = maskmm.block_masked_mm(*arrays[:2], 32, *arrays[2:])
    assert result.device == device
    assert np.asarray(result).tobytes() == expected.tobytes()
