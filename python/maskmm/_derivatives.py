"""Derivatives of ``block_masked_mm`` ("mm") and ``block_masked_dot`` ("dot") over the arrays of any framework.

Both operations are linear in each input, and the gradient of each is one of the two again: the table of the core
(src/core/derivative_table.hpp) says which, and this module interprets it. A front brings the functions of its framework
(``Functions``); where those can be differentiated themselves, so can what comes out here, to any order.

Inputs are in canonical form (``canonical_shapes``): operands and masks have two axes or more; batch axes may broadcast,
and a mask may have size 1 in a block axis.

>>> import numpy as np, maskmm
>>> from maskmm import _derivatives
>>> class NumPy:
...     mm = staticmethod(maskmm.block_masked_mm)
...     dot = staticmethod(maskmm.block_masked_dot)
...     transpose = staticmethod(lambda x: x.swapaxes(-1, -2))
...     scaled = staticmethod(lambda x, mask: np.where(mask != 0, x * mask, 0))
...     like = staticmethod(lambda gradient, x: gradient.astype(x.dtype))  # no axes are broadcast here
>>> a, b, mask = np.ones((32, 64)), np.full((64, 32), 2.0), np.array([[0.0, 1.0]])
>>> inputs = {"a": a, "b": b, "mask_lhs": mask}
>>> gradients = _derivatives.vjp("mm", NumPy(), inputs, (32, 32, 32), np.ones((32, 32)), ["a", "mask_lhs"])
>>> gradients["mask_lhs"]
array([[65536., 65536.]])
>>> gradients["a"][0, ::32]
array([ 0., 64.])
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from maskmm._maskmm import derivative_table

INPUTS = {
    "mm": ("a", "b", "mask_out", "mask_lhs", "mask_rhs"),
    "dot": ("x", "a", "b", "mask_out", "mask_lhs", "mask_rhs"),
}
Shape = tuple[int, ...]
BlockSizes = tuple[int, int, int]  # m, n, k


class Functions(Protocol):
    """What a front brings. Arrays are those of its framework; masks may be None."""

    def mm(
        self, a: Any, b: Any, block_size: BlockSizes, mask_out: Any, mask_lhs: Any, mask_rhs: Any, /
    ) -> Any:
        """block_masked_mm."""

    def dot(
        self, x: Any, a: Any, b: Any, block_size: BlockSizes, mask_out: Any, mask_lhs: Any, mask_rhs: Any, /
    ) -> Any:
        """block_masked_dot."""

    def transpose(self, x: Any, /) -> Any:
        """Axes -1 and -2 swapped: a view where the framework has such."""

    def scaled(self, x: Any, mask: Any, /) -> Any:
        """x * mask, element by element, in the type of x; the mask is of any type and broadcasts. Where the mask is
        zero in that type it is 0, whatever x holds. Differentiable: ``scaled(cotangent, mask)`` by x, and by a
        floating mask, where it is zero too, ``scaled(cotangent, x)``.
        """

    def like(self, gradient: Any, x: Any, /) -> Any:
        """The gradient summed over the axes along which x was broadcast, in the type of x."""


class _Rule(NamedTuple):
    gradient: str
    arguments: tuple[
        tuple[str, bool], ...
    ]  # in the order of INPUTS: which ("": none), and whether it is transposed
    blocks: BlockSizes


def _parsed(text: str) -> tuple[str, bool]:
    return text.removesuffix(".T"), text.endswith(".T")


_RULES = {
    (operation, name): _Rule(gradient, tuple(_parsed(arguments.get(i, "")) for i in INPUTS[gradient]), blocks)
    for operation, name, gradient, arguments, blocks in derivative_table()
}


def vjp(
    operation: str,
    functions: Functions,
    inputs: Mapping[str, Any],
    block_size: BlockSizes,
    cotangent: Any,
    wanted: Iterable[str],
) -> dict[str, Any]:
    """The gradients of the wanted inputs, by name, each of its input's shape and type.

    Args:
        operation: "mm" or "dot".
        functions: of the framework.
        inputs: the inputs in canonical form by name; an absent mask is None or missing.
        block_size: (m, n, k).
        cotangent: of the result.
        wanted: names of floating inputs. A gradient's value does not depend on the others.
    """
    known = {**inputs, "cotangent": cotangent}

    def argument(name: str, transposed: bool) -> Any:
        if name == "weights" and name not in known:
            mask = inputs.get("mask_out")
            known[name] = cotangent if mask is None else functions.scaled(cotangent, mask)
        value = known.get(name)
        return functions.transpose(value) if transposed and value is not None else value

    gradients = {}
    for name in wanted:
        rule = _RULES[operation, name]
        arguments = [argument(*of) for of in rule.arguments]
        blocks = (block_size[rule.blocks[0]], block_size[rule.blocks[1]], block_size[rule.blocks[2]])
        gradient = _call(functions, rule.gradient, arguments, blocks)
        gradients[name] = functions.like(gradient, inputs[name])
    return gradients


def jvp(
    operation: str,
    functions: Functions,
    inputs: Mapping[str, Any],
    block_size: BlockSizes,
    tangents: Mapping[str, Any],
) -> Any:
    """The tangent of the result: the sum, over the inputs with a tangent, of the operation with that input replaced by
    its tangent. None where there is no tangent. A tangent has the shape of its input.
    """
    total = None
    for name, tangent in tangents.items():
        if tangent is None:
            continue
        arguments = [tangent if i == name else inputs.get(i) for i in INPUTS[operation]]
        term = _call(functions, operation, arguments, block_size)
        total = term if total is None else total + term
    return total


def canonical_shapes(operation: str, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """To what shape each input is to be reshaped: axes of size 1 are added, nothing else changes.

    ``shapes`` are those of the inputs that are there. The result of the operation on the reshaped inputs is to be
    reshaped to ``result_shape`` of its shape.

    >>> canonical_shapes("mm", {"a": (70,), "b": (3, 70, 90), "mask_out": (), "mask_lhs": (2,)})
    {'a': (1, 70), 'b': (3, 70, 90), 'mask_out': (1, 1), 'mask_lhs': (1, 2)}
    """
    rows, columns = len(shapes["a"]) > 1, len(shapes["b"]) > 1
    has = {
        "x": (rows, columns),
        "a": (rows, True),
        "b": (True, columns),
        "mask_out": (rows, columns),
        "mask_lhs": (rows, True),
        "mask_rhs": (True, columns),
    }
    result = {}
    for name in INPUTS[operation]:
        shape = shapes.get(name)
        if shape is None:
            continue
        has_rows, has_columns = has[name]
        core = has_rows + has_columns
        shape = (1,) * (core - len(shape)) + tuple(shape)
        batch, own = shape[: len(shape) - core], shape[len(shape) - core :]
        result[name] = (*batch, own[0] if has_rows else 1, own[-1] if has_columns else 1)
    return result


def result_shape(canonical: Shape, a_ndim: int, b_ndim: int) -> Shape:
    """The shape of the result without the axes that 1-D operands drop.

    >>> result_shape((3, 1, 90), a_ndim=1, b_ndim=3)
    (3, 90)
    """
    rows = canonical[-2:-1] if a_ndim > 1 else ()
    return (*canonical[:-2], *rows, *(canonical[-1:] if b_ndim > 1 else ()))


def _call(functions: Any, operation: str, arguments: list[Any], block_size: BlockSizes) -> Any:
    if operation == "mm":
        a, b, *masks = arguments
        return functions.mm(a, b, block_size, *masks)
    x, a, b, *masks = arguments
    return functions.dot(x, a, b, block_size, *masks)
