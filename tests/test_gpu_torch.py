"""torch tensors on a GPU; collected where there is one (conftest.py). test_cases.py has all shapes and types, and
test_torch.py what is the same on the CPU.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import maskmm
from case_builders import Call, product
from gpu_arrays import load, to_numpy, to_torch, usable
from oracle import BFLOAT16, FLOATS, check_result, evaluate

torch = load("torch")
RNG = np.random.default_rng(7)
BUSY_CYCLES = 2_000_000_000  # about a second


def normal(*shape: int, dtype: Any = torch.float32) -> Any:
    return torch.randn(shape, device="cuda", dtype=torch.float32).to(dtype)


def check(result: Any, call: Call) -> None:
    check_result(to_numpy(result), evaluate(call.a, call.b, call.block_size, *call.masks()))


def on_gpu(call: Call) -> tuple[Any, ...]:
    masks = (None if mask is None else to_torch(mask) for mask in call.masks())
    return to_torch(call.a), to_torch(call.b), call.block_size, *masks


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_a_tensor_comes_back(dtype: np.dtype[Any]) -> None:
    call = product(RNG, 200, 150, 130, 32, dtype=dtype)
    a, b, *rest = on_gpu(call)
    result = maskmm.block_masked_mm(a, b, *rest)
    assert type(result) is torch.Tensor
    assert result.device == a.device
    assert result.dtype == a.dtype
    assert result.is_contiguous()
    assert not result.requires_grad
    check(result, call)
    out = torch.full_like(result, torch.nan)
    assert maskmm.block_masked_mm(a, b, *rest, out=out) is out
    assert torch.equal(out, result)


def test_views() -> None:
    a, b = normal(3, 64, 200), normal(5, 130, 200)
    plain = maskmm.block_masked_mm(a, b[2].T)  # bits may depend on strides
    copied = maskmm.block_masked_mm(a.contiguous(), b[2].T.contiguous())
    assert torch.allclose(copied, plain, rtol=1e-5, atol=1e-4)
    assert torch.equal(maskmm.block_masked_mm(a.expand(2, 3, 64, 200), b[2].mT)[1], plain)
    every_second = torch.zeros(3, 128, 400, device="cuda")[:, ::2, 1::2].copy_(a)
    assert torch.allclose(maskmm.block_masked_mm(every_second, b[2].T), plain, rtol=1e-5, atol=1e-4)
    out = torch.full((3, 130, 64), torch.nan, device="cuda").mT
    assert maskmm.block_masked_mm(a, b[2].T, out=out) is out
    assert torch.allclose(out, plain, rtol=1e-5, atol=1e-4)
    parameter = torch.nn.Parameter(a)
    with torch.no_grad():
        assert torch.equal(maskmm.block_masked_mm(parameter, b[2].T), plain)
    assert maskmm.block_masked_mm(a[0, 0], b[0, 0]).shape == ()
    assert maskmm.block_masked_mm(a[:0], b[2].T).shape == (0, 64, 130)
    assert not maskmm.block_masked_mm(a[..., :0], b[2].T[:0]).any()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("special", [np.nan, np.inf])
def test_what_is_dead_has_no_effect(dtype: np.dtype[Any], special: float) -> None:
    call = product(RNG, 256, 192, 320, 64, "lhs rhs", 0.5, dtype)
    assert call.mask_lhs is not None
    assert call.mask_rhs is not None
    dead_a = ~call.mask_lhs | ~np.any(call.mask_rhs, axis=1)
    dead_b = ~call.mask_rhs | ~np.any(call.mask_lhs, axis=0, keepdims=True).T
    a, b = call.a.copy(), call.b.copy()
    for operand, dead in ((a, dead_a), (b, dead_b)):
        operand[np.kron(dead, np.ones((64, 64), bool))] = special
    clean, poisoned = (
        maskmm.block_masked_mm(*on_gpu(c)) for c in (call, Call(a, b, 64, None, *call.masks()[1:]))
    )
    check(clean, call)
    assert torch.equal(clean, poisoned)
    b = call.b.copy()
    b[:64] = special  # live or not, where it is live it shows
    facing = Call(call.a, b, 64, None, *call.masks()[1:])
    check(maskmm.block_masked_mm(*on_gpu(facing)), facing)


def test_masks_in_host_memory() -> None:
    call = product(RNG, 200, 150, 130, 32)
    a, b, block, *masks = on_gpu(call)
    expected = maskmm.block_masked_mm(a, b, block, *masks)
    assert torch.equal(maskmm.block_masked_mm(a, b, block, *call.masks()), expected)
    on_cpu = [mask.cpu() for mask in masks]
    assert torch.equal(maskmm.block_masked_mm(a, b, block, masks[0], *on_cpu[1:]), expected)
    two = torch.tensor(2.0, device="cuda", dtype=torch.float64)
    doubled = maskmm.block_masked_mm(a, b, block, mask_rhs=two)
    assert torch.equal(maskmm.block_masked_mm(a, b, block, mask_lhs=True, mask_rhs=2.0), doubled)
    assert not maskmm.block_masked_mm(a, b, block, mask_out=0).any()


def test_explain() -> None:
    call = product(RNG, 256, 256, 256, 64)
    explanation = maskmm.explain(*on_gpu(call))
    assert explanation.device == maskmm.Device(maskmm.gpu)
    assert explanation.live_fraction == pytest.approx(
        evaluate(call.a, call.b, 64, *call.masks()).live_fraction
    )
    assert explanation.isa.startswith("sm_")
    assert explanation.kernel in str(explanation)


def busy(stream: Any) -> None:
    with torch.cuda.stream(stream):
        torch.cuda._sleep(BUSY_CYCLES)


def test_it_waits_for_nothing() -> None:
    a, b, *rest = on_gpu(product(RNG, 256, 256, 256, 32))
    expected = maskmm.block_masked_mm(a, b, *rest)
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(BUSY_CYCLES)
        result = maskmm.block_masked_mm(a, b, *rest)
        assert not stream.query(), "the call waited for the stream"
    stream.synchronize()
    assert torch.equal(result, expected)


@pytest.mark.parametrize("kind", ["current", "torch", "handle", "new"])
def test_streams(kind: str) -> None:
    """The operands are written late on the stream: a call on another one would read zeros."""
    a, b, *rest = on_gpu(product(RNG, 300, 300, 300, 32))
    expected = maskmm.block_masked_mm(a, b, *rest)
    late = torch.zeros_like(a)
    torch.cuda.synchronize()
    device = maskmm.Device(maskmm.gpu, a.device.index)
    ours = maskmm.new_stream(device)
    stream = torch.cuda.ExternalStream(ours.handle) if kind == "new" else torch.cuda.Stream()
    busy(stream)
    with torch.cuda.stream(stream):
        late.copy_(a)
        if kind == "current":
            result = maskmm.block_masked_mm(late, b, *rest)
    if kind != "current":
        handle = maskmm.Stream.from_handle(device, stream.cuda_stream)
        given: Any = {"torch": stream, "handle": handle, "new": ours}[kind]
        result = maskmm.block_masked_mm(late, b, *rest, stream=given)
    stream.synchronize()
    assert torch.equal(result, expected)
    if kind == "new":
        maskmm.synchronize(ours)


def test_derivatives_run_on_the_stream_of_the_call() -> None:
    a, b, *rest = on_gpu(product(RNG, 300, 300, 300, 32))
    expected = torch.autograd.grad(maskmm.block_masked_mm(a.requires_grad_(), b, *rest).sum(), a)[0]
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    busy(stream)
    with torch.cuda.stream(stream):
        late = torch.zeros_like(b).copy_(b)
    result = maskmm.block_masked_mm(a, late, *rest, stream=stream)
    with torch.cuda.stream(stream):
        total = result.sum()
    found = torch.autograd.grad(total, a)[0]
    torch.cuda.synchronize()
    assert torch.equal(found, expected)


def test_graphs_of_a_training_step() -> None:
    call = product(RNG, 128, 192, 256, 32)
    a, b, *rest = on_gpu(call)
    b.requires_grad_()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(2):
            torch.autograd.grad(maskmm.block_masked_mm(a, b, *rest).square().sum(), b)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = torch.autograd.grad(maskmm.block_masked_mm(a, b, *rest).square().sum(), b)[0]
    a.copy_(torch.randn_like(a))
    graph.replay()
    expected = torch.autograd.grad(maskmm.block_masked_mm(a, b, *rest).square().sum(), b)[0]
    assert torch.equal(found, expected)


def test_streams_named_by_their_device() -> None:
    a, b, *rest = on_gpu(product(RNG, 100, 100, 100, 32))
    expected = maskmm.block_masked_mm(a, b, *rest)
    device = maskmm.Device(maskmm.gpu, a.device.index)
    for stream in (maskmm.gpu, device, maskmm.default_stream(device), torch.cuda.default_stream()):
        assert torch.equal(maskmm.block_masked_mm(a, b, *rest, stream=stream), expected)


def test_two_streams_side_by_side() -> None:
    calls = [product(RNG, 256, 256, 512, 32) for _ in range(2)]
    tensors = [on_gpu(call) for call in calls]
    expected = [maskmm.block_masked_mm(*arguments) for arguments in tensors]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in calls]
    results: list[list[Any]] = [[], []]
    for _ in range(50):
        for stream, arguments, found in zip(streams, tensors, results, strict=True):
            with torch.cuda.stream(stream):
                found.append(maskmm.block_masked_mm(*arguments))
    torch.cuda.synchronize()
    for right, found in zip(expected, results, strict=True):
        assert all(torch.equal(result, right) for result in found)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_graphs(dtype: np.dtype[Any]) -> None:
    first, second = (on_gpu(product(RNG, 200, 300, 400, 32, dtype=dtype)) for _ in range(2))
    held = [x.clone() if isinstance(x, torch.Tensor) else x for x in first]
    maskmm.block_masked_mm(*held)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = maskmm.block_masked_mm(*held)
        out = torch.empty_like(result)
        maskmm.block_masked_mm(*held, out=out)
    for arguments in (second, first):
        for to, source in zip(held, arguments, strict=True):
            if isinstance(to, torch.Tensor):
                to.copy_(source)
        result.fill_(torch.nan)
        out.fill_(torch.nan)
        graph.replay()
        expected = maskmm.block_masked_mm(*arguments)
        assert torch.equal(result, expected)
        assert torch.equal(out, expected)


def test_a_host_mask_cannot_be_captured() -> None:
    a = normal(64, 64)
    graph = torch.cuda.CUDAGraph()
    message = "mask_lhs: expected an array on gpu:0 while the stream is being captured, got one on cpu:0"
    with torch.cuda.graph(graph):
        a + a
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            maskmm.block_masked_mm(a, a, mask_lhs=np.ones((1, 1), bool))
    graph.replay()
    assert torch.equal(
        maskmm.block_masked_mm(a, a), maskmm.block_masked_mm(a, a, mask_lhs=np.ones((1, 1), bool))
    )


def gpu(*shape: int, dtype: Any = torch.float32) -> Any:
    return torch.ones(shape, device="cuda", dtype=dtype)


ERRORS: list[tuple[Callable[[], tuple[tuple[Any, ...], dict[str, Any]]], type[Exception], str]] = [
    (lambda: ((gpu(64, 64), gpu(64, 64).cpu()), {}), ValueError,
     "b: expected an array on gpu:0 as a is, got one on cpu:0"),
    (lambda: ((gpu(64, 64).cpu(), gpu(64, 64)), {}), ValueError,
     "b: expected an array on cpu:0 as a is, got one on gpu:0"),
    (lambda: ((gpu(64, 64).cpu(),) * 2, {"mask_out": gpu(1, 1)}), ValueError,
     "mask_out: expected an array on cpu:0 as a is, got one on gpu:0"),
    (lambda: ((gpu(64, 64).cpu(), gpu(64, 64).cpu().requires_grad_()), {"mask_out": gpu(1, 1)}), ValueError,
     "mask_out: expected an array on cpu:0 as a is, got one on gpu:0"),
    (lambda: ((gpu(64, 64), gpu(64, 64)), {"stream": maskmm.cpu}), ValueError,
     "stream: expected one on gpu:0 as a is, got cpu:0"),
    (lambda: ((gpu(1, 1).expand(2**20, 64), gpu(1, 1).expand(64, 2**20)), {}), MemoryError,
     "no memory for a result of shape (1048576, 1048576)"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "error", "message"), ERRORS, ids=[str(i) for i in range(len(ERRORS))])
def test_errors(make: Callable[[], tuple[tuple[Any, ...], dict[str, Any]]], error: Any, message: str) -> None:
    arguments, keywords = make()
    with pytest.raises(error) as raised:
        maskmm.block_masked_mm(*arguments, **keywords)
    assert type(raised.value) is error
    assert str(raised.value) == message
    assert maskmm.block_masked_mm(gpu(64, 64), gpu(64, 64)).sum().item() == 64**3, "the next call must work"


def test_other_frameworks_are_refused() -> None:
    if not usable("cupy"):
        return
    cupy = load("cupy")
    x = cupy.ones((64, 64), np.float32)
    for arguments, message in [
        ((gpu(64, 64), x), "a, b: expected arrays of one framework, got torch.Tensor, cupy.ndarray"),
        ((x, gpu(64, 64)), "a, b: expected arrays of one framework, got cupy.ndarray, torch.Tensor"),
        ((gpu(64, 64), gpu(64, 64), 64, x[:1, :1]),
         "a, b, mask_out: expected arrays of one framework, got torch.Tensor, torch.Tensor, "
         "cupy.ndarray"),
    ]:  # fmt: skip
        with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
            maskmm.block_masked_mm(*arguments)


def test_no_memory_for_the_workspace() -> None:
    """The bit rows of this mask take a terabyte."""
    M, K = 2**17, 2**34
    a, b = gpu(1, 1).expand(M, K), gpu(1, 1).expand(K, 1)
    mask = torch.zeros(1, 1, dtype=torch.bool, device="cuda").expand(M // 16, K // 16)
    out = torch.full((M, 1), 7.0, device="cuda")
    with pytest.raises(MemoryError, match="workspace"):
        maskmm.block_masked_mm(a, b, 16, mask_lhs=mask, out=out)
    assert torch.equal(maskmm.block_masked_mm(a[:, :9], b[:9], out=out), torch.full_like(out, 9))


def test_nothing_is_kept() -> None:
    a, b, *rest = on_gpu(product(RNG, 256, 256, 256, 32))
    maskmm.block_masked_mm(a, b, *rest)
    gc.collect()  # what other tests left in cycles
    before = torch.cuda.memory_allocated()
    for _ in range(100):
        maskmm.block_masked_mm(a, b, *rest)
        with pytest.raises(TypeError, match="mask_out"):
            maskmm.block_masked_mm(a, b, mask_out="x")  # type: ignore[call-overload]
    assert torch.cuda.memory_allocated() == before


def test_numpy_arrays_on_the_gpu() -> None:
    call = product(RNG, 200, 150, 130, 32, dtype=BFLOAT16)
    expected = to_numpy(maskmm.block_masked_mm(*on_gpu(call)))
    device = maskmm.Device(maskmm.gpu)
    for stream in (maskmm.gpu, device, maskmm.new_stream(device), torch.cuda.Stream()):
        result = maskmm.block_masked_mm(call.a, call.b, 32, *call.masks(), stream=stream)
        assert type(result) is np.ndarray
        assert result.tobytes() == expected.tobytes()
    out = np.zeros((150, 200), BFLOAT16).T
    assert maskmm.block_masked_mm(call.a, call.b, 32, *call.masks(), stream=maskmm.gpu, out=out) is out
    assert np.array_equal(out.view(np.uint16), expected.view(np.uint16))
    assert maskmm.explain(call.a, call.b, 32, *call.masks(), stream=maskmm.gpu).device == device
    with pytest.raises(ValueError, match=r"^stream: no gpu:99 here, there "):
        maskmm.block_masked_mm(call.a, call.b, stream=maskmm.Device(maskmm.gpu, 99))
