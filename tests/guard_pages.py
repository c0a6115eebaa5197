"""Arrays beside and between memory pages that may not be touched."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterable

import numpy as np

from oracle import Array

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
PAGE = mmap.PAGESIZE


def _pages(count: int) -> Array:
    """Zeroed whole pages, between two that are protected."""
    memory = np.frombuffer(mmap.mmap(-1, (count + 2) * PAGE), np.uint8)
    _protect(memory, [0, count + 1])
    return memory[PAGE : (count + 1) * PAGE]


def _protect(memory: Array, pages: Iterable[int]) -> None:
    for page in pages:
        address = memory.__array_interface__["data"][0] + page * PAGE
        if _libc.mprotect(address, PAGE, 0) != 0:
            raise OSError(ctypes.get_errno(), "mprotect failed")


def _extent(x: Array) -> tuple[int, int]:
    """Offsets of the first byte and past the last one from element (0, ..., 0)."""
    if x.size == 0:
        return 0, 0
    steps = [stride * (size - 1) for stride, size in zip(x.strides, x.shape, strict=True)]
    return sum(step for step in steps if step < 0), sum(step for step in steps if step > 0) + x.itemsize


def beside_a_guard(x: Array, side: str) -> Array:
    """x with the same strides, its last byte the last one before a protected page ("end"), or its first byte the first
    one after such a page ("begin")."""
    low, high = _extent(x)
    memory = _pages(-(-(high - low) // PAGE))
    start = (memory.size - (high - low) if side == "end" else 0) - low
    result: Array = np.ndarray(x.shape, x.dtype, memory, start, x.strides)
    result[...] = x
    return result


def with_dead_pages(x: Array, strides: tuple[int, int], live: Array) -> Array:
    """x (2-D) with these strides, in memory whose pages are protected where they hold no element that is `live`."""
    empty: Array = np.ndarray(x.shape, x.dtype, np.zeros(1, x.dtype), 0, (0, 0))
    low, high = _extent(np.lib.stride_tricks.as_strided(empty, x.shape, strides))
    memory = _pages(-(-(high - low) // PAGE))
    result: Array = np.ndarray(x.shape, x.dtype, memory, -low, strides)
    result[...] = x
    offsets = -low + np.arange(x.shape[0])[:, None] * strides[0] + np.arange(x.shape[1]) * strides[1]
    touched = set(np.unique(offsets[live] // PAGE)) | set(np.unique((offsets[live] + x.itemsize - 1) // PAGE))
    _protect(memory, set(range(memory.size // PAGE)) - touched)
    return result
