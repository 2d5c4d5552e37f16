"""Random QONNX networks with results of 1..4 bits: equal to their meaning in real numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.quant.importers.qonnx import convert
from tercet.quant.quantize import quantize_input
from tercet.quant.reference import Reference

from .qonnx_models import ROUND, SHAPE, Model, evaluate

NOISE = 0.01  # share of values that lie on a step, where float64 falls to either side


class Network:
    """A model that grows by random layers; `channels`, `rows`, `columns` of its last tensor."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.model = Model(SHAPE)
        self.channels, self.rows, self.columns = SHAPE
        bits = int(self.rng.integers(3, 9))
        self.name = self.model.quant("x", self.scale(), bits, zero=int(self.rng.integers(-1, 2)))

    def scale(self) -> float:
        """Any number, or a power of two, with which ties come up."""
        value = float(self.rng.uniform(0.05, 0.5))
        return 2.0 ** round(np.log2(value)) if self.rng.random() < 0.4 else value

    def convolve(self) -> None:
        rng, groups = self.rng, int(self.rng.choice([1, self.channels]))
        out = self.channels * int(rng.integers(1, 3)) if groups > 1 else int(rng.integers(2, 7))
        kernel = int(rng.integers(1, min(3, self.rows, self.columns) + 1))
        shape = (out, self.channels // groups, kernel, kernel)
        if rng.random() < 0.25:
            weight = self.model.bipolar(rng.normal(size=shape), self.scale())
        else:
            scale = rng.uniform(0.1, 0.5, (out, 1, 1, 1)) if rng.random() < 0.5 else self.scale()
            bits = int(rng.integers(2, 9))
            weight = self.model.quant(rng.normal(size=shape), scale, bits, narrow=1)
        operands = [self.name, weight]
        if rng.random() < 0.5:
            operands.append(self.model.constant(rng.normal(size=out)))
        self.name = self.model.op("Conv", *operands, group=groups)
        self.channels = out
        self.rows, self.columns = self.rows - kernel + 1, self.columns - kernel + 1

    def pool(self) -> None:
        self.name = self.model.op("AveragePool", self.name, kernel_shape=[1, 2])
        self.columns -= 1

    def change(self, kind: str) -> None:
        rng, constant = self.rng, self.model.constant
        column = (self.channels, 1, 1)
        if kind == "BatchNormalization":
            self.name = self.model.batch_norm(self.name, self.channels, rng)
        elif kind == "Mul":
            self.name = self.model.op("Mul", self.name, constant(rng.uniform(-1, 2, column)))
        elif kind == "Add":
            self.name = self.model.op("Add", constant(rng.normal(size=column)), self.name)
        elif kind == "Clip":
            ends = (constant(rng.uniform(-2, 0)), constant(rng.uniform(0.1, 2)))
            self.name = self.model.op("Clip", self.name, *ends)
        else:
            self.name = self.model.op(kind, self.name)

    def quantise(self) -> None:
        rng = self.rng
        bits, signed = int(rng.integers(1, 5)), bool(rng.random() < 0.5)
        narrow, mode = bool(rng.random() < 0.3 and bits > 1), str(rng.choice(list(ROUND)))
        least = -(2 ** (bits - 1)) + narrow if signed else 0
        zero = int(rng.integers(least, least + 2**bits - narrow)) if bits > 1 else 0
        options: dict[str, Any] = {"signed": int(signed), "narrow": int(narrow), "mode": mode}
        self.name = self.model.quant(self.name, 2 * self.scale(), bits, zero=zero, **options)


def network(seed: int) -> Network:
    made = Network(seed)
    for _ in range(int(made.rng.integers(1, 4))):
        if made.rng.random() < 0.8 or made.columns < 2:
            made.convolve()
        else:
            made.pool()
        kinds = ["BatchNormalization", "Mul", "Add", "Clip", "Relu", "Neg"]
        for kind in made.rng.choice(kinds, int(made.rng.integers(0, 4))):
            made.change(str(kind))
        made.quantise()
    return made


@pytest.mark.parametrize("seed", range(40))
def test_random_networks_are_exact(seed: int, tmp_path: Path) -> None:
    made = network(seed)
    onnx = made.model.graph(made.name, tmp_path)
    x = made.rng.normal(size=(8, *SHAPE)).astype(np.float32)

    found = convert(onnx)

    graph = found.graph
    reference = Reference(graph)
    ours = reference.run(quantize_input(graph, x))
    kind = reference.types[graph.output]
    assert kind.scale is not None
    real = evaluate(onnx, x)[made.name].transpose(0, 2, 3, 1) / kind.scale + kind.zero_point
    assert (ours != np.rint(real)).mean() <= NOISE
    assert all(item.exact for item in found.exactness)
