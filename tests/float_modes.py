"""The calling thread's rounding and flush modes, through the C library's floating-point environment."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import platform
import struct
from collections.abc import Iterator

_libm = ctypes.CDLL(ctypes.util.find_library("m") or "libm.so.6")
_x86 = platform.machine() in ("x86_64", "AMD64")

# Where fenv_t keeps the register that the vector units obey, the bits of its rounding field, and those that flush
# subnormal results and inputs.
_OFFSET = 28 if _x86 else 0
_ROUNDING = (
    {"up": 0x4000, "down": 0x2000, "zero": 0x6000}
    if _x86
    else {"up": 1 << 22, "down": 2 << 22, "zero": 3 << 22}
)
_FLUSH = 0x8040 if _x86 else 1 << 24

MODES = ("up", "down", "zero", "flush", "zero flush")


def control_register() -> int:
    """The modes, without the flags that operations leave behind."""
    environment = ctypes.create_string_buffer(64)
    _libm.fegetenv(environment)
    value: int = struct.unpack_from("<I", environment, _OFFSET)[0]
    return value & ~0x3F if _x86 else value


@contextlib.contextmanager
def mode(words: str) -> Iterator[int]:
    """Sets the modes named in `words` for this thread and yields the register's value."""
    saved, changed = ctypes.create_string_buffer(64), ctypes.create_string_buffer(64)
    _libm.fegetenv(saved)
    _libm.fegetenv(changed)
    register = struct.unpack_from("<I", changed, _OFFSET)[0]
    for word in words.split():
        register |= _FLUSH if word == "flush" else _ROUNDING[word]
    struct.pack_into("<I", changed, _OFFSET, register)
    _libm.fesetenv(changed)
    try:
        yield control_register()
    finally:
        _libm.fesetenv(saved)
