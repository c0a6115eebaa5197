"""JAX arrays, with values or traced, on the CPU or a GPU: they go to maskmm.jax."""

from __future__ import annotations

import importlib
from typing import Any

import maskmm.jax
from maskmm import _device, _maskmm
from maskmm._fronts import dlpack
from maskmm._maskmm import Device, DeviceType

jax: Any = importlib.import_module("jax")


def takes(x: Any) -> bool:
    return True


def block_masked_mm(a: Any, *rest: Any, stream: Any, out: Any, precision: Any) -> Any:
    _check_stream(a, stream)
    return maskmm.jax.block_masked_mm(a, *rest, out=out, precision=precision)


def block_masked_dot(x: Any, a: Any, *rest: Any, stream: Any, out: Any, precision: Any) -> Any:
    _check_stream(a, stream)
    return maskmm.jax.block_masked_dot(x, a, *rest, out=out, precision=precision)


def explain(*arguments: Any) -> tuple[Device, str, str, str, int, float, int]:
    names = ("a", "b", "block_size", "mask_out", "mask_lhs", "mask_rhs")
    for name, x in zip(names, arguments, strict=False):
        if isinstance(x, jax.core.Tracer):
            raise TypeError(f"{name}: expected a JAX array with values, got one that is traced")
    if _place(arguments[0]).type is DeviceType.gpu:
        return _device.OnDevice(dlpack).explain(*arguments)
    return _maskmm.explain(*arguments)


def _place(x: Any) -> Device:
    device = next(iter(x.devices()))
    return (
        Device(DeviceType.cpu)
        if device.platform == "cpu"
        else Device(DeviceType.gpu, device.local_hardware_id)
    )


def _check_stream(a: Any, stream: Any) -> None:
    """XLA orders the work. A device is taken where a is there already."""
    if stream is None:
        return
    if isinstance(a, jax.core.Tracer) or not isinstance(stream, Device | DeviceType):
        raise TypeError(f"stream: expected None, as XLA orders the work, got {type(stream).__name__}")
    device = stream if isinstance(stream, Device) else Device(stream)
    if device != _place(a):
        raise ValueError(f"stream: expected one on {_text(_place(a))} as a is, got {_text(device)}")


def _text(device: Device) -> str:
    return f"{device.type.name}:{device.index}"
