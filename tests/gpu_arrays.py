"""NumPy arrays to a framework or a GPU and back, with the layout that they have in memory, and whole calls there."""

from __future__ import annotations

import ctypes
import importlib
import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

import maskmm
from case_builders import Call
from oracle import BFLOAT16, Array

FRAMEWORKS = ("torch", "cupy", "jax")


def has_gpu() -> bool:
    return len(maskmm.devices()) > 1


def usable(framework: str) -> bool:
    """There is a GPU, and the framework is installed."""
    return has_gpu() and find_spec(framework) is not None


def load(framework: str) -> Any:
    if framework == "jax":
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    module: Any = importlib.import_module(framework)
    if framework == "jax":
        module.config.update("jax_enable_x64", True)
    return module


class Memory:
    """The bytes that a NumPy array looks into, copied to a GPU to the same place modulo 256."""

    def __init__(self, x: Array) -> None:
        low, high = np.lib.array_utils.byte_bounds(x)
        self.bytes = np.frombuffer(memoryview((ctypes.c_uint8 * (high - low)).from_address(low)), np.uint8)
        self.before = low % 256
        self.first = self.before + x.__array_interface__["data"][0] - low  # where the first element is


def to_torch(x: Array, device: str = "cuda") -> Any:
    torch = load("torch")
    dtype = torch.bfloat16 if x.dtype == BFLOAT16 else getattr(torch, x.dtype.name)
    place = Memory(x) if x.size else None
    in_elements = all(stride >= 0 and stride % x.itemsize == 0 for stride in x.strides)
    if place is None or place.first % x.itemsize != 0 or not in_elements:
        bits = (
            np.ascontiguousarray(x).reshape(x.shape).view(np.uint8 if x.itemsize == 1 else f"i{x.itemsize}")
        )
        return torch.from_numpy(bits.copy()).to(device).view(dtype)
    memory = torch.zeros(-(-(place.before + place.bytes.size) // 16) * 16, dtype=torch.uint8, device=device)
    memory[place.before : place.before + place.bytes.size] = torch.from_numpy(place.bytes.copy()).to(device)
    strides = [stride // x.itemsize for stride in x.strides]
    return memory.view(dtype).as_strided(x.shape, strides, place.first // x.itemsize)


def to_cupy(x: Array) -> Any:
    cupy = load("cupy")
    if x.size == 0:
        return cupy.empty(x.shape, x.dtype)
    place = Memory(x)
    memory = cupy.zeros(place.before + place.bytes.size, np.uint8)
    memory[place.before :] = cupy.asarray(place.bytes)
    return cupy.ndarray(x.shape, x.dtype, memory.data + place.first, x.strides)


def cupy_to_numpy(x: Any, like: Array) -> Array:
    """The elements of to_cupy(like), by way of their bytes: CuPy itself cannot copy what is misaligned. All bytes
    between the elements must be as they were.
    """
    cupy = load("cupy")
    if like.size == 0:
        return to_numpy(x)
    place = Memory(like)
    offset = place.first - place.before
    expected = place.bytes.copy()
    after = cupy.asnumpy(cupy.ndarray(expected.shape, np.uint8, x.data - offset))
    result: Array = np.ndarray(like.shape, like.dtype, after, offset, like.strides)
    view: Array = np.ndarray(like.shape, like.dtype, expected, offset, like.strides)
    view[...] = result
    assert np.array_equal(expected, after), "memory between the elements of out changed"
    return result


def to_jax(x: Array) -> Any:
    jax = load("jax")
    return jax.device_put(np.array(x, order="C"), jax.devices("gpu")[0])


TO_GPU: dict[str, Callable[[Array], Any]] = {"torch": to_torch, "cupy": to_cupy, "jax": to_jax}


def to_numpy(x: Any) -> Array:
    framework = type(x).__module__.partition(".")[0]
    if framework == "torch":
        torch = load("torch")
        is_bfloat16 = x.dtype == torch.bfloat16
        result: Array = (x.view(torch.int16) if is_bfloat16 else x).cpu().numpy()
        return result.view(BFLOAT16) if is_bfloat16 else result
    if framework == "cupy":
        x = load("cupy").asnumpy(x)
    return np.array(x)


class OnlyDLPack:
    """A CuPy array that shows nothing but DLPack."""

    def __init__(self, x: Any) -> None:
        self.x = x

    def __dlpack__(self, **arguments: Any) -> Any:
        return self.x.__dlpack__(**arguments)

    def __dlpack_device__(self) -> Any:
        return self.x.__dlpack_device__()


def multiply(call: Call, to_gpu: Callable[[Array], Any], writes_out: bool = True) -> Array:
    """The call with all its arrays on the GPU. Where the framework cannot write to call.out, it is written here."""
    a, b = to_gpu(call.a), to_gpu(call.b)
    masks = [None if mask is None else to_gpu(mask) for mask in call.masks()]
    if call.out is None or not writes_out:
        result = to_numpy(maskmm.block_masked_mm(a, b, call.block_size, *masks))
        if call.out is None:
            return result
        call.out[...] = result
    else:
        out = to_gpu(call.out)
        returned = maskmm.block_masked_mm(a, b, call.block_size, *masks, out=out)
        assert returned is out, "out was not returned"
        call.out[...] = cupy_to_numpy(out, call.out) if to_gpu is to_cupy else to_numpy(out)
    return call.out


def multiply_torch(call: Call) -> Array:
    return multiply(call, to_torch)


def multiply_torch_on_cpu(call: Call) -> Array:
    return multiply(call, lambda x: to_torch(x, "cpu"))


def multiply_cupy(call: Call) -> Array:
    return multiply(call, to_cupy)


def multiply_jax(call: Call) -> Array:
    return multiply(call, to_jax, writes_out=False)


def multiply_dlpack(call: Call) -> Array:
    """By way of DLPack alone; what it cannot express is made contiguous first."""
    cupy = load("cupy")

    def exported(x: Array) -> OnlyDLPack:
        expressible = all(stride % x.itemsize == 0 for stride in x.strides)
        return OnlyDLPack(to_cupy(x if expressible else np.ascontiguousarray(x).reshape(x.shape)))

    masks = [None if mask is None else exported(mask) for mask in call.masks()]
    lent = maskmm.block_masked_mm(exported(call.a), exported(call.b), call.block_size, *masks)
    result = to_numpy(cupy.from_dlpack(lent))
    if call.out is None:
        return result
    call.out[...] = result
    return call.out


def multiply_copied(call: Call) -> Array:
    return maskmm.block_masked_mm(
        call.a, call.b, call.block_size, *call.masks(), stream=maskmm.gpu, out=call.out
    )


# Rows of adapters.py: what must be there, and how a call is made.
ROWS: dict[str, tuple[str, Callable[[Call], Array]]] = {
    "numpy on a GPU": ("numpy", multiply_copied),
    "torch": ("torch", multiply_torch),
    "cupy": ("cupy", multiply_cupy),
    "jax": ("jax", multiply_jax),
    "dlpack": ("cupy", multiply_dlpack),
}


def rows() -> dict[str, Callable[[Call], Array]]:
    return {name: function for name, (needed, function) in ROWS.items() if usable(needed)}
