"""Which front takes a call: the kinds of its arrays decide. No framework is imported that the caller has not."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np

from maskmm._device import Front
from maskmm._maskmm import Device, DeviceType, Stream

# Frameworks and their array types; maskmm._fronts has a module of the same name for each, and one for DLPack.
_FRAMEWORKS = (("torch", "Tensor"), ("cupy", "ndarray"), ("jax", "Array"))
_NAMES = ("x", "a", "b", "mask_out", "mask_lhs", "mask_rhs", "out")
_fronts: dict[str, Front] = {}  # loaded so far


def choose(
    a: Any, b: Any, mask_out: Any, mask_lhs: Any, mask_rhs: Any, out: Any, x: Any = None
) -> Front | None:
    """The front of the arguments that lie on a GPU; None where none does. x is block_masked_dot's.

    Raises:
        TypeError: x, a, b and out are not all of that framework, or a mask lies on a GPU and is of another.
    """
    front = None
    arrays = (x, a, b, mask_out, mask_lhs, mask_rhs, out)
    for array in arrays:
        if array is None or type(array) is np.ndarray or (front is not None and front.is_own(array)):
            continue  # devices are compared later
        own = _front_of(array)
        if own is None:
            continue
        if front is not None:
            raise _mixed(arrays)
        front = own
    if front is None or all(front.is_own(array) for array in (a, b, x, out) if array is not None):
        return front
    raise _mixed(arrays)


def as_stream(stream: Any) -> Any:
    """A stream of torch's or CuPy's as one of ours. Whatever else comes is left for the extension to judge."""
    if stream is None or isinstance(stream, Stream | Device | DeviceType):
        return stream
    if hasattr(stream, "cuda_stream"):  # torch's
        return Stream.from_handle(Device(DeviceType.gpu, stream.device_index), stream.cuda_stream)
    if hasattr(stream, "ptr") and hasattr(stream, "device_id"):  # CuPy's; its null stream is of any device
        index = stream.device_id if stream.device_id >= 0 else sys.modules["cupy"].cuda.Device().id
        return Stream.from_handle(Device(DeviceType.gpu, index), stream.ptr)
    return stream


def _front_of(x: Any) -> Front | None:
    """The front of an array that lies on a GPU; None for everything else."""
    for framework, array in _FRAMEWORKS:
        module = sys.modules.get(framework)
        if module is None:
            continue
        kind = getattr(module, array, None)  # not there yet while another thread imports it
        if kind is not None and isinstance(x, kind):
            front = _load(framework)
            return front if front.is_on_gpu(x) else None
    if hasattr(x, "__dlpack_device__"):
        front = _load("dlpack")
        return front if front.is_on_gpu(x) else None
    return None


def _load(name: str) -> Front:
    front = _fronts.get(name)
    if front is None:
        module: Any = importlib.import_module(f"maskmm._fronts.{name}")
        front = _fronts[name] = module
    return front


def _mixed(arrays: tuple[Any, ...]) -> TypeError:
    concerned = [
        (name, x)
        for name, x in zip(_NAMES, arrays, strict=True)
        if x is not None and (not name.startswith("mask") or _front_of(x) is not None)
    ]
    names = ", ".join(name for name, _ in concerned)
    kinds = ", ".join(_kind(x) for _, x in concerned)
    return TypeError(f"{names}: expected arrays of one framework, got {kinds}")


def _kind(x: Any) -> str:
    """What a message calls x."""
    name = type(x).__name__
    for framework, array in (*_FRAMEWORKS, ("numpy", "ndarray")):
        kind = getattr(sys.modules.get(framework), array, None)
        if kind is not None and isinstance(x, kind):
            name = f"{framework}.{array}"
    if name == "jax.Array" and isinstance(x, sys.modules["jax"].core.Tracer):
        return "traced jax.Array"
    return f"{name} on a GPU" if _front_of(x) is not None else name
