"""THE table of cases: name -> what to call. Every front end and back end runs all of them (test_cases.py).

Each builder gets a generator seeded by the case's name, so a case has the same contents in every process. To add a
case, add a line to CASES; nothing else needs to know.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable

import numpy as np

from case_builders import (
    OTHER_TYPES,
    Call,
    Rng,
    bits,
    both,
    changed,
    column,
    facing,
    into,
    laid_out,
    masked_by,
    numbers,
    patterned,
    poisoned,
    product,
    with_scales,
    with_transposed,
)
from layouts import LAYOUTS
from oracle import BFLOAT16, FLOATS

BLOCKS = (16, 32, 64, 128, 256)


def build(name: str) -> Call:
    """The call of that name, with fresh arrays."""
    return CASES[name](np.random.default_rng(zlib.crc32(name.encode())))


CASES: dict[str, Callable[[Rng], Call]] = {}

# Block sizes: each in each place, with ragged last blocks.
for block in BLOCKS:
    CASES[f"block/{block}"] = lambda rng, B=block: product(rng, 2 * B + 5, B + 3, 3 * B - 7, B)
for shape in itertools.product(BLOCKS, repeat=3):
    CASES[f"block/{'x'.join(map(str, shape))}"] = lambda rng, S=shape: product(
        rng, S[0] + 3, S[1] + 9, 2 * S[2] + 1, S, density=0.8
    )

# Extents: around every vector, register tile and block.
for extents in [
    (1, 1, 1), (1, 64, 64), (64, 1, 64), (64, 64, 1), (2, 3, 5), (15, 17, 16), (16, 16, 16), (17, 33, 65), (31, 47, 48),
    (63, 65, 127), (64, 64, 64), (65, 129, 191), (100, 200, 300), (128, 256, 320), (200, 3, 70), (3, 200, 70),
    (7, 7, 600), (256, 192, 449), (1, 500, 500), (4, 500, 260), (8, 260, 500), (13, 400, 130), (33, 300, 300),
    (500, 1, 500), (500, 8, 99),
]:  # fmt: skip
    for block in (16, 64):
        CASES[f"extent/{'x'.join(map(str, extents))}/{block}"] = lambda rng, E=extents, B=block: product(
            rng, *E, B
        )
    for dtype in FLOATS:
        if dtype != np.float32:
            CASES[f"extent/{'x'.join(map(str, extents))}/{dtype}"] = lambda rng, E=extents, D=dtype: product(
                rng, *E, 32, dtype=D
            )
for M, N, K in [(0, 5, 7), (5, 0, 7), (5, 7, 0), (0, 0, 0), (0, 0, 7), (70, 0, 0), (0, 70, 0)]:
    for masks in ("", "out lhs rhs"):
        CASES[f"zero/{M}x{N}x{K}/{masks}"] = lambda rng, E=(M, N, K), W=masks: product(rng, *E, 64, W)
CASES["zero/batch"] = lambda rng: product(rng, 70, 70, 70, batch=(3, 0))
CASES["zero/K in a batch"] = lambda rng: product(rng, 70, 70, 0, batch=(2, 3))
CASES["zero/batch by a mask"] = lambda rng: Call(
    numbers(rng, (70, 70)), numbers(rng, (70, 70)), mask_out=np.ones((0, 2, 2), bool)
)

# One to seven masks, and densities, where the whole is large enough for every kernel and for several threads.
for masks in ("", "out", "lhs", "rhs", "out lhs", "out rhs", "lhs rhs", "out lhs rhs"):
    for block in (32, 64):
        for dtype in FLOATS:
            CASES[f"masks/{masks or 'none'}/{block}/{dtype}"] = lambda rng, W=masks, B=block, D=dtype: (
                product(rng, 321, 270, 390, B, W, dtype=D)
            )
for density in (0.0, 0.05, 0.2, 0.95, 1.0):
    for masks in ("out", "lhs", "rhs", "out lhs rhs"):
        CASES[f"density/{density}/{masks}"] = lambda rng, P=density, W=masks: product(
            rng, 400, 400, 400, 32, W, P
        )
CASES["large/64"] = lambda rng: product(rng, 700, 900, 800, 64, "lhs rhs", 0.5)
for K in (4100, 9000, 20000, 70000):
    for masks in ("", "lhs", "rhs", "out lhs rhs"):
        CASES[f"long K/{K}/{masks or 'no masks'}"] = lambda rng, K=K, W=masks: product(
            rng, 34, 41, K, 32, W, 0.5
        )
        CASES[f"long K/{K}/{masks or 'no masks'}/transposed a"] = lambda rng, K=K, W=masks: with_transposed(
            product(rng, 34, 41, K, 64, W, 0.5), "a"
        )
    for dtype in FLOATS:
        CASES[f"long K/{K}/{dtype}"] = lambda rng, K=K, D=dtype: product(
            rng, 18, 19, K, (16, 16, 256), dtype=D
        )
        CASES[f"long K/{K}/{dtype}/scales"] = lambda rng, K=K, D=dtype: with_scales(
            product(rng, 18, 19, K, (16, 16, 256), dtype=D), rng
        )
CASES["long K/many rows"] = lambda rng: product(rng, 600, 24, 9000, 64, "lhs rhs", 0.3)
CASES["long K/many columns"] = lambda rng: product(rng, 24, 600, 9000, 64, "lhs rhs", 0.3)
CASES["long K/batch"] = lambda rng: product(rng, 34, 41, 20000, 64, "lhs rhs", 0.3, batch=(18,))
CASES["long K/mostly dead"] = lambda rng: product(rng, 300, 200, 20000, 32, "lhs rhs", 0.05)
CASES["long K/all dead"] = lambda rng: product(rng, 70, 90, 20000, 32, "lhs rhs", 0.0)
CASES["large/wide"] = lambda rng: product(rng, 20, 5000, 70, 64, "out", 0.5)
CASES["large/tall"] = lambda rng: product(rng, 5000, 20, 70, 64, "out lhs", 0.5)
for rows in (1, 2, 3, 5, 8, 16, 40, 64):
    CASES[f"small M/{rows}"] = lambda rng, M=rows: product(rng, M, 520, 700, 64, "rhs", 0.5)
    CASES[f"small M/{rows}/transposed b"] = lambda rng, M=rows: with_transposed(
        product(rng, M, 520, 700, 64, "rhs", 0.5), "b"
    )

for which in ("out", "lhs", "rhs"):
    for pattern in (
        "causal",
        "anticausal",
        "band",
        "diagonal",
        "checkers",
        "one row",
        "one column",
        "corner",
    ):
        CASES[f"pattern/{which}/{pattern}"] = lambda rng, W=which, P=pattern: patterned(rng, W, P, 32)

# Operands with one axis, and the masks that then lack it.
for shape_a, shape_b, out, lhs, rhs in [
    ((70,), (70, 90), (3,), (3,), (3, 3)),
    ((70,), (5, 70, 90), (5, 3), (3,), (3, 3)),
    ((70,), (70, 90), (4, 3), (2, 1, 3), (3, 3)),
    ((90, 70), (70,), (3,), (3, 3), (3,)),
    ((5, 90, 70), (70,), (5, 3), (3, 3), (5, 3)),
    ((90, 70), (70,), (1,), (1, 3), (1,)),
    ((70,), (70,), (), (3,), (3,)),
    ((70,), (70,), (4,), (4, 3), (3,)),
    ((70,), (70,), (2, 1), (1, 3), (2, 2, 1)),
    ((70,), (70, 90), (), (), ()),
    ((90, 70), (70,), (), (), ()),
    ((1,), (1,), (), (1,), (1,)),
    ((0,), (0,), (), (0,), (0,)),
    ((0,), (0, 40), (2,), (0,), (0, 2)),
]:
    CASES[f"1-D/{shape_a} @ {shape_b}, {out} {lhs} {rhs}"] = (
        lambda rng, A=shape_a, B=shape_b, S=(out, lhs, rhs): Call(
            numbers(rng, A), numbers(rng, B), 32, *(bits(rng, shape, 0.8) for shape in S)
        )
    )
    CASES[f"1-D/{shape_a} @ {shape_b}, no masks"] = lambda rng, A=shape_a, B=shape_b: Call(
        numbers(rng, A), numbers(rng, B, np.float64), 32
    )

# Batches: each argument widens them, and a mask may have size 1 in a block axis or lack axes.
for shape_a, shape_b, out, lhs, rhs in [
    ((3, 40, 50), (50, 70), None, None, None),
    ((40, 50), (3, 50, 70), (3, 5), (3, 3, 4), (4, 5)),
    ((2, 1, 40, 50), (3, 50, 70), (3, 5), (2, 1, 3, 4), (3, 4, 5)),
    ((2, 3, 40, 50), (2, 3, 50, 70), (2, 3, 3, 5), (3, 3, 4), (1, 1, 4, 5)),
    ((40, 50), (50, 70), (6, 3, 5), None, None),
    ((40, 50), (50, 70), None, (6, 3, 4), None),
    ((40, 50), (50, 70), None, None, (6, 4, 5)),
    ((40, 50), (50, 70), (2, 1, 1, 3, 5), (3, 1, 3, 4), (4, 4, 5)),
    ((2, 40, 50), (50, 70), (4, 1, 3, 5), None, (4, 1, 4, 5)),
    ((40, 50), (50, 70), (1, 5), (3, 1), (4, 1)),
    ((40, 50), (50, 70), (3, 1), (1, 4), (1, 5)),
    ((40, 50), (50, 70), (1, 1), (1, 1), (1, 1)),
    ((40, 50), (50, 70), (5,), (4,), (5,)),
    ((40, 50), (50, 70), (1,), (1,), (1,)),
    ((40, 50), (50, 70), (), (), ()),
    ((3, 40, 50), (3, 50, 70), (3, 1, 5), (3, 3, 1), (3, 1, 1)),
    ((3, 1, 1, 1, 40, 50), (2, 1, 1, 50, 70), (2, 1, 3, 5), (3, 1, 1, 1, 3, 4), (4, 5)),
    ((1,) * 20 + (40, 50), (50, 70), (2,) + (1,) * 29 + (3, 5), None, None),
    ((1, 1, 40, 50), (1, 50, 70), None, (3, 4), None),
]:
    CASES[f"batch/{shape_a} @ {shape_b}, {out} {lhs} {rhs}".replace("1, " * 20, "")] = (
        lambda rng, A=shape_a, B=shape_b, S=(out, lhs, rhs): Call(
            numbers(rng, A), numbers(rng, B), 16, *(None if s is None else bits(rng, s, 0.8) for s in S)
        )
    )
CASES["batch/many"] = lambda rng: product(rng, 17, 19, 23, 16, "lhs", batch=(150,))
CASES["batch/wide and large"] = lambda rng: product(rng, 130, 140, 150, 32, "out lhs rhs", batch=(2, 3))
CASES["batch/one a for many b"] = lambda rng: Call(
    numbers(rng, (130, 140)), numbers(rng, (5, 140, 90)), 32, mask_lhs=bits(rng, (5, 5), 0.5)
)
CASES["batch/one b for many a"] = lambda rng: Call(
    numbers(rng, (5, 130, 140)), numbers(rng, (140, 90)), 32, mask_rhs=bits(rng, (5, 3), 0.5)
)

# Types: every pair with at least one float.
for left, right in itertools.product(FLOATS + OTHER_TYPES, repeat=2):
    if left in FLOATS or right in FLOATS:
        CASES[f"types/{left} @ {right}"] = lambda rng, A=left, B=right: product(
            rng, 37, 42, 53, 16, "lhs rhs", dtype=A, dtype_b=B
        )
# bfloat16 is multiplied in pairs along k where the processor can: odd K, rows that start between pairs, every layout.
for name in LAYOUTS:
    for other in ("transposed", "misaligned", "padded_rows"):
        CASES[f"pairs/{name} @ {other}"] = lambda rng, L=name, R=other: both(
            product(rng, 130, 70, 195, 16, "lhs rhs", dtype=BFLOAT16), LAYOUTS[L], LAYOUTS[R]
        )
        CASES[f"pairs/{other} @ {name}"] = lambda rng, L=other, R=name: both(
            product(rng, 70, 90, 130, 64, "lhs rhs", dtype=BFLOAT16), LAYOUTS[L], LAYOUTS[R]
        )
for extents in ((37, 42, 1), (70, 90, 63), (65, 129, 130), (130, 70, 195), (300, 260, 451)):
    CASES[f"pairs/{extents}"] = lambda rng, E=extents: product(rng, *E, 16, "lhs rhs", dtype=BFLOAT16)
    CASES[f"pairs/{extents}/scales"] = lambda rng, E=extents: with_scales(
        product(rng, *E, 32, dtype=BFLOAT16), rng
    )
    CASES[f"pairs/{extents}/dead NaN"] = lambda rng, E=extents: poisoned(
        rng, BFLOAT16, "out lhs rhs", 16, E, False
    )
for block in (16, 32):
    CASES[f"pairs/many rows, blocks of {block}"] = lambda rng, B=block: product(
        rng, 1100, 150, 400, B, "lhs rhs", 0.5, dtype=BFLOAT16
    )
CASES["pairs/Inf beside a pad"] = lambda rng: Call(
    np.full((40, 33), np.inf, BFLOAT16), np.ones((33, 50), BFLOAT16), 16
)

CASES["types/large integers @ float32"] = lambda rng: Call(
    rng.integers(-(2**63), 2**63 - 1, (20, 30)), numbers(rng, (30, 40)), 16
)
CASES["types/large unsigned @ float64"] = lambda rng: Call(
    rng.integers(0, 2**64 - 1, (20, 30), np.uint64), numbers(rng, (30, 40), np.float64), 16
)
CASES["types/int32 @ float16, rounded"] = lambda rng: Call(
    rng.integers(2049, 60000, (20, 30), np.int32), (numbers(rng, (30, 40)) / 1000).astype(np.float16), 16
)
CASES["types/int16 @ bfloat16, rounded"] = lambda rng: Call(
    rng.integers(-32000, 32000, (20, 30), np.int16), numbers(rng, (30, 40), BFLOAT16), 16
)
CASES["types/bool bytes @ float32"] = lambda rng: Call(
    rng.integers(0, 3, (20, 30), np.uint8).view(bool), numbers(rng, (30, 40)), 16
)

for which in ("out", "lhs", "rhs", "out lhs rhs"):
    for mask_dtype, dtype in itertools.product(FLOATS + OTHER_TYPES, FLOATS):
        CASES[f"mask type/{which}/{mask_dtype}/{dtype}"] = lambda rng, W=which, T=mask_dtype, D=dtype: (
            masked_by(rng, W, T, D)
        )
    for block, dtype in itertools.product((32, 64), FLOATS):
        CASES[f"scales/{which}/{block}/{dtype}"] = lambda rng, W=which, B=block, D=dtype: with_scales(
            product(rng, 250, 300, 330, B, W, dtype=D), rng
        )
CASES["scales/all ones"] = lambda rng: Call(
    numbers(rng, (200, 210)),
    numbers(rng, (210, 220)),
    32,
    *(np.ones(s, "f4") for s in ((7, 7), (7, 7), (7, 7))),
)
CASES["scales/zeros and ones"] = lambda rng: Call(
    numbers(rng, (200, 210)), numbers(rng, (210, 220)), 32, mask_lhs=bits(rng, (7, 7)).astype(np.float32)
)
CASES["scales/ragged batch"] = lambda rng: with_scales(
    product(rng, 77, 91, 103, 32, batch=(3,)), rng, np.float16
)

for which in ("a", "b", "a b", "mask_out mask_lhs mask_rhs"):
    for change in LAYOUTS.values():
        for dtype in FLOATS:
            CASES[f"layout/{which}/{change.__name__}/{dtype}"] = lambda rng, W=which, C=change, D=dtype: (
                laid_out(rng, W, C, D, (75, 83, 101))
            )
        CASES[f"layout/{which}/{change.__name__}/large"] = lambda rng, W=which, C=change: laid_out(
            rng, W, C, np.float32, (230, 270, 330)
        )
for left, right in itertools.combinations(LAYOUTS.values(), 2):
    CASES[f"layout/{left.__name__} @ {right.__name__}"] = lambda rng, L=left, R=right: both(
        product(rng, 66, 71, 85, 32, dtype=np.float32), L, R
    )
CASES["layout/batches reversed and spread"] = lambda rng: Call(
    numbers(rng, (2, 3, 40, 50))[::-1, :, :, ::-1],
    np.broadcast_to(numbers(rng, (3, 50, 70)), (2, 3, 50, 70)),
    16,
    bits(rng, (3, 2, 5, 3)).transpose(1, 0, 3, 2),
    np.broadcast_to(bits(rng, (2, 1, 1, 4)), (2, 3, 3, 4)),
    bits(rng, (2, 3, 8, 5))[:, :, ::-2],
)

# Results that are written in place: only their own elements may change (test_cases.py looks at the gaps).

OUTPUTS = (
    "transposed",
    "fortran",
    "padded_rows",
    "every_third",
    "reversed_rows",
    "reversed_all",
    "misaligned",
    "field",
)
for name in OUTPUTS:
    for dtype in FLOATS:
        CASES[f"out/{name}/{dtype}"] = lambda rng, C=LAYOUTS[name], D=dtype: into(rng, C, D, (75, 83, 101))
    CASES[f"out/{name}/large"] = lambda rng, C=LAYOUTS[name]: into(rng, C, np.float32, (230, 270, 330))
    CASES[f"out/{name}/batch"] = lambda rng, C=LAYOUTS[name]: into(rng, C, np.float32, (45, 50, 60), (2, 3))
    CASES[f"out/{name}/K of zero"] = lambda rng, C=LAYOUTS[name]: into(rng, C, np.float32, (45, 50, 0), (2,))
    CASES[f"out/{name}/one column"] = lambda rng, C=LAYOUTS[name]: into(rng, C, np.float32, (45, 1, 60))
    CASES[f"out/{name}/one row"] = lambda rng, C=LAYOUTS[name]: into(rng, C, np.float32, (1, 45, 60))
CASES["out/1-D"] = lambda rng: Call(
    numbers(rng, (50,)), numbers(rng, (50, 70)), 32, out=np.full((210,), np.nan, "f4")[1::3]
)
CASES["out/0-D"] = lambda rng: Call(
    numbers(rng, (50,)), numbers(rng, (50,)), 32, out=np.full((), np.nan, "f4")
)

# Numbers that are not finite, and where they may not go.
for masks in ("out", "lhs", "rhs", "out lhs", "lhs rhs", "out lhs rhs"):
    for block, extents in ((16, (50, 60, 70)), (32, (200, 250, 300)), (64, (200, 250, 300))):
        for scaled in (False, True):
            CASES[f"dead NaN/{masks}/{block}{'/scaled' if scaled else ''}"] = (
                lambda rng, W=masks, B=block, E=extents, S=scaled: poisoned(rng, np.float32, W, B, E, S)
            )
    for dtype in FLOATS:
        CASES[f"dead NaN/{masks}/{dtype}"] = lambda rng, W=masks, D=dtype: poisoned(
            rng, D, W, 32, (70, 90, 110), False
        )
CASES["dead NaN/long K"] = lambda rng: poisoned(rng, np.float32, "out lhs rhs", 32, (70, 90, 20000), False)
CASES["dead NaN/long K/scaled"] = lambda rng: poisoned(
    rng, np.float32, "out lhs rhs", 64, (70, 90, 20000), True
)
CASES["dead NaN/batch"] = lambda rng: poisoned(rng, np.float32, "out lhs rhs", 16, (50, 60, 70), False, (3,))

for block, dtype in itertools.product((16, 32, 64), FLOATS):
    for scaled in (False, True):
        CASES[f"live NaN/{block}/{dtype}{'/scaled' if scaled else ''}"] = (
            lambda rng, B=block, D=dtype, S=scaled: facing(rng, D, B, S, 0.001)
        )

# A mask value is live unless it is zero in the type that sums run in; what it does to NaN and to zeros follows.
for values, dtype in [
    ((np.nan, 1, 0), "f4"), ((np.inf, 1, 0), "f4"), ((-np.inf, -0.0, 1), "f4"), ((-0.0, -0.0, -0.0), "f4"),
    ((1e-50, 1, -1e-60), "f8"), ((1e-46, 1e-44, 1e-40), "f8"), ((1e39, 1, 0), "f8"), ((2**24 + 1, 1, 0), "i8"),
    ((2**63, 1, 0), "u8"), ((-(2**63), 1, 0), "i8"), ((6e-8, 65504, 0), "f2"), ((1e-40, 3e38, 0), BFLOAT16),
]:  # fmt: skip
    for which, flat in itertools.product(("out", "lhs"), ("f4", "f8", "f2")):
        CASES[f"mask value/{which}/{values}/{np.dtype(dtype)}/{flat}"] = (
            lambda rng, V=values, T=dtype, W=which, D=flat: changed(
                Call(abs(numbers(rng, (90, 40), D)), abs(numbers(rng, (40, 50), D)), 32),
                **{f"mask_{W}": column(*V, dtype=T)},
            )
        )
CASES["mask value/underflow makes it dead before NaN"] = lambda rng: Call(
    np.full((40, 40), np.nan, "f4"), numbers(rng, (40, 40)), 64, mask_lhs=np.full((1, 1), 1e-46)
)
CASES["mask value/the product of live scales underflows over NaN"] = lambda rng: Call(
    np.full((40, 40), np.nan, "f4"),
    numbers(rng, (40, 40)),
    64,
    mask_lhs=np.full((1, 1), 1e-30, "f4"),
    mask_rhs=np.full((1, 1), 1e-30, "f4"),
)
CASES["mask value/scales that cancel"] = lambda rng: Call(
    numbers(rng, (40, 40)),
    numbers(rng, (40, 40)),
    16,
    np.full((1, 1), 1e-15),
    np.full((1, 1), 1e15),
    np.full((1, 1), 3.0),
)
CASES["mask value/integer scales beyond 16 bits"] = lambda rng: Call(
    numbers(rng, (40, 40), BFLOAT16) / 64,
    numbers(rng, (40, 40), BFLOAT16),
    16,
    mask_lhs=np.full((1, 1), 1025),
)
CASES["range/overflow to Inf"] = lambda rng: Call(
    np.full((40, 40), 3e38, "f4"), np.full((40, 40), 2, "f4"), 16
)
CASES["range/largest floats"] = lambda rng: Call(np.full((40, 40), 3.4e38, "f4"), np.eye(40, dtype="f4"), 16)
CASES["range/float16 overflow"] = lambda rng: Call(
    np.full((40, 70), 100, "f2"), np.full((70, 40), 20, "f2"), 16
)
CASES["range/float16 sums beyond its range"] = lambda rng: Call(
    np.full((40, 70), 100, "f2"), np.full((70, 40), 20, "f2"), 16, mask_out=np.full((3, 3), 0.25)
)
CASES["range/subnormals"] = lambda rng: Call(
    (numbers(rng, (40, 70)) * 1e-40).astype("f4"), numbers(rng, (70, 40)), 16, mask_lhs=bits(rng, (3, 5))
)
CASES["range/float16 subnormals"] = lambda rng: Call(
    (numbers(rng, (40, 70)) * 1e-6).astype("f2"), (numbers(rng, (70, 40)) * 0.01).astype("f2"), 16
)
CASES["range/products underflow"] = lambda rng: Call(
    (numbers(rng, (40, 70)) * 1e-22).astype("f4"), (numbers(rng, (70, 40)) * 1e-22).astype("f4"), 16
)
CASES["range/cancellation"] = lambda rng: Call(
    np.tile(numbers(rng, (40, 35)), 2) * np.repeat(np.array([1, -1], "f4"), 35),
    np.tile(numbers(rng, (35, 40)), (2, 1)),
    16,
)
