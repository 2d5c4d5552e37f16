"""Random chains of every operator that has a circuit, with random foldings and protections."""

from __future__ import annotations

import math

import numpy as np

from tercet.hw.configure import Fold, Protection
from tercet.quant import ir

MAPS = ("Conv2d", "Conv2d", "MaxPool", "AvgPool")


def random_network(
    rng: np.random.Generator,
) -> tuple[ir.Graph, dict[str, Fold], dict[str, Protection]]:
    """A graph of 2 to 6 layers on images of 3..7 pixels, its folding and its protection."""
    chain = _Chain(rng)
    for _ in range(int(rng.integers(1, 4))):
        getattr(chain, f"add_{rng.choice(MAPS).lower()}")()
    if rng.random() < 0.2:
        chain.add_globalavgpool()
    else:
        chain.put(ir.Flatten, (math.prod(chain.shape),))
    chain.add_dense()
    if rng.random() < 0.5:
        chain.put(ir.ArgMax, (1,))
    graph = ir.Graph(
        "random", "x", chain.first, chain.input_type, tuple(chain.nodes), chain.previous
    )
    return graph, chain.folding, chain.protection


def requantize(
    rng: np.random.Generator, channels: int, spread: float, out: ir.TensorType
) -> ir.Requantize:
    """A table that maps +-spread to about the range of `out`; now and then a plain shift."""
    count = int(rng.choice([1, channels]))
    relu = out.zero_point if rng.random() < 0.4 else None
    if rng.random() < 0.2:
        shift = max(0, math.ceil(math.log2(2 * spread / (out.hi - out.lo))))
        return ir.Requantize(np.ones(1, int), np.array([shift]), out, lo=relu)
    shift = rng.integers(12, 20, count)
    ideal = (out.hi - out.lo) / (2 * spread) * rng.uniform(0.5, 2, count)
    multiplier = np.clip(np.rint(ideal * 2.0**shift), 1, 65535).astype(np.int64)
    low = out.lo if relu is None else relu
    bound = rng.integers(low, out.hi + 1, count) if rng.random() < 0.3 else None
    kind = str(rng.choice(["saturate", "zero"]))
    return ir.Requantize(multiplier, shift, out, lo=relu, bound=bound, bound_kind=kind)


class _Chain:
    """Nodes in order; `shape` and `kind` of the newest tensor."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.first = self.shape = (
            *(int(n) for n in rng.integers(3, 8, 2)),
            int(rng.integers(1, 4)),
        )
        self.kind = self.type()
        self.input_type = self.kind
        self.nodes: list[ir.Node] = []
        self.previous = "x"
        self.folding: dict[str, Fold] = {}
        self.protection: dict[str, Protection] = {}

    def type(self) -> ir.TensorType:
        bits = int(self.rng.integers(3, 9))
        plain = ir.TensorType(bits, bool(self.rng.integers(2)))
        zero = int(self.rng.integers(plain.lo, plain.hi + 1)) if self.rng.random() < 0.5 else 0
        return ir.TensorType(bits, plain.signed, zero)

    def put(self, kind: type, shape: tuple[int, ...], out=None, fold=None, **fields) -> str:
        name = f"{kind.__name__.lower()}{len(self.nodes)}"
        self.nodes.append(kind(name=name, inputs=(self.previous,), **fields))
        self.previous, self.shape = name, shape
        self.kind = out or self.kind
        if fold:
            self.folding[name] = fold
        return name

    def divisor(self, n: int) -> int:
        return int(self.rng.choice([d for d in range(1, n + 1) if n % d == 0]))

    def window(self, dilation=(1, 1)):
        """kernel, stride, padding of a window that fits, and the size of its result."""
        rng, kernel, stride, padding, size = self.rng, [], [], [0] * 4, []
        for axis in (0, 1):
            length = self.shape[axis]
            kernel.append(int(rng.integers(1, max(1, min(4, length // dilation[axis])) + 1)))
            extent = (kernel[axis] - 1) * dilation[axis] + 1
            stride.append(int(rng.integers(1, 3)))
            padding[axis], padding[axis + 2] = (int(n) for n in rng.integers(0, extent, 2) // 2)
            size.append((length + padding[axis] + padding[axis + 2] - extent) // stride[axis] + 1)
        return tuple(kernel), tuple(stride), tuple(padding), tuple(size)

    def linear(self, shape: tuple[int, ...]) -> dict[str, object]:
        """Weights and bias of a layer whose weights have this shape."""
        bits = int(self.rng.integers(2, 9))
        limit = 1 << (bits - 1)
        return {
            "weight": self.rng.integers(-limit, limit, shape),
            "bias": self.rng.integers(-500, 500, shape[0]),
            "weight_bits": bits,
        }

    def spread(self, fields: dict[str, object]) -> float:
        weight = np.asarray(fields["weight"])
        reach = max(self.kind.hi - self.kind.zero_point, self.kind.zero_point - self.kind.lo)
        return float(reach * np.abs(weight).reshape(len(weight), -1).sum(axis=1).max() / 2 + 500)

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
        kernel, stride, padding, size = self.window(dilation)
        groups = self.divisor(channels)
        count = groups * int(rng.integers(1, 5))
        fields = self.linear((count, *kernel, channels // groups))
        out = self.type()
        table = requantize(rng, count, self.spread(fields), out)
        pe, simd = (
            self.divisor(count // groups),
            self.divisor(math.prod(kernel) * channels // groups),
        )
        name = self.put(
            ir.Conv2d, (*size, count), out, Fold(pe, simd, str(rng.choice(["dsp", "lut"]))),
            stride=stride, padding=padding, dilation=dilation, groups=groups, requantize=table,
            **fields,
        )  # fmt: skip
        self.guard(name, count)

    def add_maxpool(self) -> None:
        kernel, stride, padding, size = self.window()
        fold = Fold(self.divisor(self.shape[2]))
        name = self.put(
            ir.MaxPool, (*size, self.shape[2]), None, fold,
            kernel=kernel, stride=stride, padding=padding,
        )  # fmt: skip
        self.protection[name] = Protection(control="parity" if self.rng.random() < 0.3 else "none")

    def add_avgpool(self) -> None:
        kernel, stride, padding, size = self.window()
        channels, out = self.shape[2], self.type()
        spread = (self.kind.hi - self.kind.lo) * math.prod(kernel)
        self.put(
            ir.AvgPool, (*size, channels), out, Fold(self.divisor(channels)),
            kernel=kernel, stride=stride, padding=padding,
            requantize=requantize(self.rng, channels, spread, out),
        )  # fmt: skip

    def add_globalavgpool(self) -> None:
        channels, out = self.shape[2], self.type()
        spread = (self.kind.hi - self.kind.lo) * math.prod(self.shape[:2])
        table = requantize(self.rng, channels, spread, out)
        self.put(ir.GlobalAvgPool, (channels,), out, Fold(self.divisor(channels)), requantize=table)

    def add_dense(self) -> None:
        features, count = self.shape[0], int(self.rng.integers(1, 7))
        fields = self.linear((count, features))
        fold = Fold(self.divisor(count), self.divisor(features))
        self.guard(self.put(ir.Dense, (count,), None, fold, **fields), count)
