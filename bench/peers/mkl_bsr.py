"""MKL's block-sparse matrix times dense matrix (mkl_sparse_?_mm on BSR). Conversion to BSR is not timed.

A masked right operand runs as out^T = b^T a^T; transposing a beforehand and out afterwards is not timed either.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from peers.base import BsrPeer, Peer, Problem, Run, import_module, pointer, sparse_times_dense
from peers.mkl import describe_mkl, open_mkl

ZERO_BASED, ROW_MAJOR, NO_TRANSPOSE, GENERAL = 0, 101, 10, 20
PREFIX = {"float32": ("s", ctypes.c_float), "float64": ("d", ctypes.c_double)}


class Description(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("mode", ctypes.c_int), ("diagonal", ctypes.c_int)]


class MklBsr(BsrPeer):
    name = "mkl_bsr"
    title = "MKL BSR"
    settle_seconds = 0.01

    def __init__(self, threads: int) -> None:
        self.library = open_mkl()
        self.library.MKL_Set_Num_Threads(threads)
        self.sparse = import_module("scipy.sparse")

    def describe(self) -> dict[str, str]:
        return describe_mkl(self.library)

    def prepare(self, problem: Problem) -> Run | None:
        if not self.takes(problem):
            return None
        turned = sparse_times_dense(problem)
        bsr = self.sparse.bsr_matrix(turned.left, blocksize=turned.block)
        pointers, columns = bsr.indptr.astype(np.int32), bsr.indices.astype(np.int32)
        values, right = np.ascontiguousarray(bsr.data), np.ascontiguousarray(turned.right)
        rows, inner = (extent // turned.block[0] for extent in turned.left.shape)
        letter, real = PREFIX[problem.dtype]
        handle, description = ctypes.c_void_p(), Description(GENERAL, 0, 0)
        create_bsr = getattr(self.library, f"mkl_sparse_{letter}_create_bsr")
        status = create_bsr(
            ctypes.byref(handle), ZERO_BASED, ROW_MAJOR, rows, inner, turned.block[0], pointer(pointers),
            pointer(pointers[1:]), pointer(columns), pointer(values),
        )  # fmt: skip
        if status:
            return None
        width = right.shape[1]
        out = np.zeros((turned.left.shape[0], width), right.dtype) if turned.transposed else problem.out
        self.library.mkl_sparse_set_mm_hint(handle, NO_TRANSPOSE, description, ROW_MAJOR, width, 1000)
        self.library.mkl_sparse_optimize(handle)
        multiply = getattr(self.library, f"mkl_sparse_{letter}_mm")
        arguments = (
            NO_TRANSPOSE, real(1), handle, description, ROW_MAJOR, pointer(right), width, width, real(0),
            pointer(out), width,
        )  # fmt: skip
        held = (pointers, columns, values, right)

        def call(keep: Any = held) -> None:
            if status := multiply(*arguments):
                raise RuntimeError(f"mkl_sparse_{letter}_mm returned status {status}")

        return Run(call, lambda: out.T if turned.transposed else out)


def create(threads: int) -> Peer:
    return MklBsr(threads)
