"""A network with every kind of converter that builds in two seconds; the fixture `small`."""

import numpy as np

from tercet.hw.configure import Fold
from tercet.quant import ir

FOLDING = {"conv": Fold(2, 3), "pool": Fold(2), "hidden": Fold(3, 4), "logits": Fold(2, 2)}


def graph(names=("conv", "pool", "hidden", "logits")):
    """3x4 image of 2 channels -> conv 6 -> max pool -> dense 6 -> dense 4 logits."""
    rng = np.random.default_rng(3)
    conv, pool, hidden, logits = names
    mid = ir.TensorType(5, True, zero_point=-2, scale=0.5)
    scale = ir.Requantize(rng.integers(900, 2000, 6), rng.integers(12, 15, 6), mid)
    nodes = (
        ir.Conv2d(
            name=conv, inputs=("x",), weight=rng.integers(-8, 8, (6, 2, 3, 2)), weight_bits=4,
            bias=rng.integers(-50, 50, 6), padding=(1, 1, 0, 1), requantize=scale,
        ),
        ir.MaxPool(name=pool, inputs=(conv,), kernel=(2, 2), stride=(2, 2)),
        ir.Flatten(name="flat", inputs=(pool,)),
        ir.Dense(
            name=hidden, inputs=("flat",), weight=rng.integers(-8, 8, (6, 12)), weight_bits=4,
            bias=rng.integers(-50, 50, 6), requantize=scale,
        ),
        ir.Dense(
            name=logits, inputs=(hidden,), weight=rng.integers(-8, 8, (4, 6)), weight_bits=4,
            bias=rng.integers(-50, 50, 4),
        ),
    )  # fmt: skip
    kind = ir.TensorType(4, False, zero_point=6, scale=0.25)
    return ir.Graph("small", "x", (3, 4, 2), kind, nodes, logits)


def frames(count, seed=0):
    """int64 [count, 3, 4, 2] in 0..15."""
    return np.random.default_rng(seed).integers(0, 16, (count, 3, 4, 2))
