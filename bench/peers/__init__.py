"""The libraries that maskmm is measured against, a file each.

A new peer is a new file with a class derived from `base.Peer`, and a line in ``NAMES``.
"""

from __future__ import annotations

import importlib

from peers.base import Missing, Peer, Problem, Run

__all__ = ["NAMES", "Missing", "Peer", "Problem", "Run", "load"]

# own first, then dense libraries, then libraries that know masks or sparse blocks
NAMES = ("own", "openblas", "onednn", "mkl", "mkl_bsr", "scipy_bsr", "mlx", "torch_bsr", "torch_dense")


def load(name: str, threads: int) -> Peer:
    """The peer of that name, ready to prepare problems.

    Raises:
        Missing: the library, or the processor's feature that it needs, is not there; the message says what.
        KeyError: no peer of that name.
    """
    if name not in NAMES:
        raise KeyError(name)
    module = importlib.import_module(f"peers.{name}")
    peer: Peer = module.create(threads)
    return peer
