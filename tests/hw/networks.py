"""Random chains of every operator that has a circuit, with random foldings and protections.

Scales follow the accumulators of some random frames, so that results depend on their inputs.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tercet.hw.configure import Fold, Protection
from tercet.quant import ir
from tercet.quant.reference import Reference

MAPS = ("conv2d", "conv2d", "maxpool", "avgpool")
FRAMES = 6
"""Random frames that the scales are fitted to."""


def random_network(
    rng: np.random.Generator,
) -> tuple[ir.Graph, dict[str, Fold], dict[str, Protection]]:
    """A graph of 2 to 6 layers on images of 3..7 pixels, its folding and its protection."""
    chain = _Chain(rng)
    for _ in range(int(rng.integers(1, 4))):
        getattr(chain, f"add_{rng.choice(MAPS)}")()
    if rng.random() < 0.2:
        chain.add_globalavgpool()
    else:
        chain.put(ir.Flatten)
    chain.add_dense()
    if rng.random() < 0.4:
        chain.put(ir.ArgMax)
    return chain.graph, chain.folding, chain.protection


class _Chain:
    """Nodes in order; `x` the newest tensor of some frames, `kind` its type."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        shape = (*(int(n) for n in rng.integers(3, 8, 2)), int(rng.integers(1, 4)))
        bits, signed = int(rng.integers(3, 9)), bool(rng.integers(2))
        plain = ir.TensorType(bits, signed)
        zero = int(rng.integers(plain.lo, plain.hi + 1)) if rng.random() < 0.5 else 0
        self.kind = ir.TensorType(bits, signed, zero)
        self.x = rng.integers(plain.lo, plain.hi + 1, (FRAMES, *shape))
        self.graph: ir.Graph | None = None
        self.input = (shape, self.kind)
        self.folding: dict[str, Fold] = {}
        self.protection: dict[str, Protection] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        return self.x.shape[1:]

    def put(self, kind: type, *, fold: Fold | None = None, **fields) -> str:
        """Append a node; one with `requantize` gets a table for its own accumulators."""
        nodes = self.graph.nodes if self.graph else ()
        name, source = f"{kind.__name__.lower()}{len(nodes)}", nodes[-1].name if nodes else "x"
        node = kind(name=name, inputs=(source,), **fields)
        if kind is not ir.ArgMax:  # the last node; its input is wider than a graph's
            node = self._run(node)
        shape, first = self.input
        self.graph = ir.Graph("random", "x", shape, first, (*nodes, node), name)
        if fold:
            self.folding[name] = fold
        return name

    def _run(self, node: ir.Node) -> ir.Node:
        """The node with its table; `x` and `kind` become its result's."""
        alone = self._alone(node)
        if getattr(node, "requantize", None) is not None:
            table = self._table(alone.accumulate(node, [self.x]))
            node = dataclasses.replace(node, requantize=table)
            alone = self._alone(node)
        self.x, self.kind = alone.evaluate(node, [self.x]), alone.types[node.name]
        return node

    def _alone(self, node: ir.Node) -> Reference:
        """The executor of this node alone, on the newest tensor."""
        graph = ir.Graph("alone", node.inputs[0], self.shape, self.kind, (node,), node.name)
        return Reference(graph)

    def _table(self, acc: np.ndarray) -> ir.Requantize:
        """A table that maps what is in `acc` to about the range of a random type."""
        rng, channels = self.rng, acc.shape[-1]
        bits, signed = int(rng.integers(4, 9)), bool(rng.integers(2))
        plain = ir.TensorType(bits, signed)
        low, high = min(int(acc.min()), 0), max(int(acc.max()), 1)
        scale = (plain.hi - plain.lo) / (high - low)
        zero = round(plain.lo - low * scale)
        out = ir.TensorType(bits, signed, min(max(zero, plain.lo), plain.hi))
        relu = out.zero_point if rng.random() < 0.3 and high > -low else None
        if rng.random() < 0.2:
            shift = max(0, round(-math.log2(scale)))
            return ir.Requantize(np.ones(1, int), np.array([shift]), out, lo=relu)
        count = int(rng.choice([1, channels]))
        shift = rng.integers(12, 20, count)
        ideal = scale * rng.uniform(0.8, 1.5, count)
        multiplier = np.clip(np.rint(ideal * 2.0**shift), 1, 65535).astype(np.int64)
        bound = None
        if rng.random() < 0.2:
            bound = rng.integers((out.zero_point + out.hi) // 2, out.hi + 1, count)
        kind = str(rng.choice(["saturate", "zero"]))
        return ir.Requantize(multiplier, shift, out, lo=relu, bound=bound, bound_kind=kind)

    def divisor(self, n: int) -> int:
        return int(self.rng.choice([d for d in range(1, n + 1) if n % d == 0]))

    def window(self, dilation: tuple[int, int] = (1, 1)) -> dict[str, tuple[int, ...]]:
        """Kernel, stride and padding of a window that fits the image."""
        rng, kernel, stride, padding = self.rng, [], [], [0] * 4
        for axis in (0, 1):
            most = min(4, (self.shape[axis] - 1) // dilation[axis] + 1)
            kernel.append(int(rng.integers(1, most + 1)))
            extent = (kernel[axis] - 1) * dilation[axis] + 1
            stride.append(int(rng.integers(1, 3)))
            padding[axis], padding[axis + 2] = (int(n) for n in rng.integers(0, extent, 2) // 2)
        return {"kernel": tuple(kernel), "stride": tuple(stride), "padding": tuple(padding)}

    def linear(self, shape: tuple[int, ...]) -> dict[str, object]:
        """Weights and bias of a layer whose weights have this shape."""
        bits = int(self.rng.integers(2, 9))
        limit = 1 << (bits - 1)
        return {
            "weight": self.rng.integers(-limit, limit, shape),
            "bias": self.rng.integers(-100, 100, shape[0]),
            "weight_bits": bits,
        }

    def guard(self, name: str, channels: int) -> None:
        """Protect some layers, in every combination of checksum, replicas and control parity."""
        rng = self.rng
        modulus = int(rng.choice([3, 7, 15, 255])) if rng.random() < 0.4 else None
        neurons = tuple(rng.choice(channels, 1).tolist()) if rng.random() < 0.3 else ()
        control = "parity" if rng.random() < 0.4 else "none"
        self.protection[name] = Protection(modulus, neurons, control)

    def add_conv2d(self) -> None:
        rng, channels = self.rng, self.shape[2]
        dilation = tuple(int(n) for n in rng.integers(1, 3, 2)) if rng.random() < 0.3 else (1, 1)
        window = self.window(dilation)
        kernel = window.pop("kernel")
        groups = self.divisor(channels)
        count = groups * int(rng.integers(1, 5))
        inner = math.prod(kernel) * channels // groups
        fold = Fold(
            self.divisor(count // groups), self.divisor(inner), str(rng.choice(MULTIPLIERS))
        )
        fields = self.linear((count, *kernel, channels // groups))
        name = self.put(
            ir.Conv2d,
            fold=fold,
            dilation=dilation,
            groups=groups,
            requantize=ANY,
            **window,
            **fields,
        )
        self.guard(name, count)

    def add_maxpool(self) -> None:
        name = self.put(ir.MaxPool, fold=Fold(self.divisor(self.shape[2])), **self.window())
        self.protection[name] = Protection(control=str(self.rng.choice(["none", "parity"])))

    def add_avgpool(self) -> None:
        fold = Fold(self.divisor(self.shape[2]))
        self.put(ir.AvgPool, fold=fold, requantize=ANY, **self.window())

    def add_globalavgpool(self) -> None:
        self.put(ir.GlobalAvgPool, fold=Fold(self.divisor(self.shape[2])), requantize=ANY)

    def add_dense(self) -> None:
        features, count = self.shape[0], int(self.rng.integers(2, 7))
        fold = Fold(self.divisor(count), self.divisor(features))
        self.guard(self.put(ir.Dense, fold=fold, **self.linear((count, features))), count)


MULTIPLIERS = ("dsp", "lut")
ANY = ir.Requantize(np.ones(1, int), np.zeros(1, int), ir.TensorType(8, True))
"""In place of the table that `put` fits to the accumulators."""
