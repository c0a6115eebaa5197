"""MKL's dense products, through the C interface of the library that the PyPI package mkl brings."""

from __future__ import annotations

import ctypes
import os

import numpy as np

from peers.base import Array, Peer, Problem, Run, blas_layout, find_library, load_library, pointer

ROW_MAJOR, NO_TRANSPOSE, TRANSPOSE = 101, 111, 112
PREFIX = {"float32": "s", "float64": "d"}
MIXED = {"bfloat16": "cblas_gemm_bf16bf16f32", "float16": "cblas_gemm_f16f16f32"}  # these give float32


def open_mkl(mode: int = ctypes.DEFAULT_MODE) -> ctypes.CDLL:
    """The library, its threads set to fall asleep soon after a call, so that they do not disturb the next peer."""
    path = find_library("mkl", "libmkl_rt.so.3")
    os.environ.setdefault("KMP_BLOCKTIME", "1")
    os.environ.setdefault("MKL_THREADING_LAYER", "INTEL")
    return load_library(path, mode)


def describe_mkl(library: ctypes.CDLL) -> dict[str, str]:
    buffer = ctypes.create_string_buffer(300)
    library.MKL_Get_Version_String(buffer, 300)
    words = buffer.value.decode().split()
    version = words[words.index("Version") + 1] if "Version" in words[:-1] else " ".join(words)
    return {"version": version.partition("-")[0], "threads": str(library.MKL_Get_Max_Threads())}


class Mkl(Peer):
    name = "mkl"
    title = "MKL"
    kind = "dense"
    settle_seconds = 0.01

    def __init__(self, threads: int) -> None:
        self.library = open_mkl()
        self.library.MKL_Set_Num_Threads(threads)

    def describe(self) -> dict[str, str]:
        return describe_mkl(self.library)

    def prepare(self, problem: Problem) -> Run | None:
        a, b = problem.a, problem.b
        layout_a, layout_b = blas_layout(a), blas_layout(b)
        if layout_a is None or layout_b is None:
            return None
        flags = [TRANSPOSE if layout[0] else NO_TRANSPOSE for layout in (layout_a, layout_b)]
        sizes = (a.shape[-2], b.shape[-1], a.shape[-1])
        prefix = PREFIX.get(problem.dtype)
        name = f"cblas_{prefix}gemm" if prefix else MIXED.get(problem.dtype)
        out = problem.out if prefix else np.zeros(problem.out.shape, np.float32)
        real = ctypes.c_double if prefix == "d" else ctypes.c_float
        if out.ndim == 2 and name is not None and hasattr(self.library, name):
            gemm = getattr(self.library, name)
            arguments = (
                ROW_MAJOR, *flags, *sizes, real(1), pointer(a), layout_a[1],
                pointer(b), layout_b[1], real(0), pointer(out), out.shape[1],
            )  # fmt: skip
            return Run(lambda: gemm(*arguments), lambda: out)
        if out.ndim == 3 and prefix:
            gemm = getattr(self.library, f"cblas_{prefix}gemm_batch_strided")
            arguments = (
                ROW_MAJOR, *flags, *sizes, real(1), pointer(a), layout_a[1], _step(a),
                pointer(b), layout_b[1], _step(b), real(0), pointer(out), out.shape[2], _step(out), out.shape[0],
            )  # fmt: skip
            return Run(lambda: gemm(*arguments), lambda: out)
        return None


def _step(batch: Array) -> int:
    return batch.strides[0] // batch.itemsize


def create(threads: int) -> Peer:
    return Mkl(threads)
