"""Random networks of every operator, with random foldings and protections: chains and DAGs.

Four in ten are networks of few bits: thresholds, bipolar weights and activations. Scales follow the
accumulators of some random frames, so that results depend on their inputs.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tercet.flow.folding.choices import broad_foldings
from tercet.hw.code_words import CODES
from tercet.hw.configure import Fold, Protection, circuit_nodes, configure
from tercet.hw.timing import initiation_interval
from tercet.quant import ir, ranges
from tercet.quant.reference import Reference

MAPS = ("conv2d", "conv2d", "maxpool", "avgpool")
DAG_STEPS = ("conv2d", "branch", "branch", "pad", "maxpool", "avgpool")
MOST_MULTIPLIERS, MOST_LANES, MOST_CYCLES = 400, 96, 1200
"""Of a layer of several pixels a cycle, and of a frame: more take long to simulate."""

NONE = Protection()

FRAMES = 6
"""Random frames that the scales are fitted to."""


def random_network(
    rng: np.random.Generator, width: int | None = None
) -> tuple[ir.Graph, dict[str, Fold], dict[str, Protection]]:
    """A graph of 2 to 6 layers on images of 3..7 pixels, its folding and its protection.

    `width`: pixels of a row of the input.
    """
    chain = _Chain(rng, width)
    for _ in range(int(rng.integers(1, 4))):
        getattr(chain, f"add_{rng.choice(MAPS)}")()
    if rng.random() < 0.2:
        chain.add_globalavgpool()
    else:
        chain.put(ir.Flatten)
    if rng.random() < 0.3:
        chain.add_dense(requantize=ANY)
    chain.add_dense(requantize=ANY if rng.random() < 0.15 else None)
    if rng.random() < 0.4:
        chain.put(ir.ArgMax)
    return chain.graph, chain.folding, chain.protection


def random_dag(
    rng: np.random.Generator, width: int | None = None
) -> tuple[ir.Graph, dict[str, Fold], dict[str, Protection]]:
    """As `random_network`, with branches that meet in Add and Concat, and with Pad."""
    chain = _Chain(rng, width)
    for _ in range(int(rng.integers(1, 4))):
        getattr(chain, f"add_{rng.choice(DAG_STEPS)}")()
    if rng.random() < 0.2:
        chain.add_globalavgpool()
    elif rng.random() < 0.7:
        chain.put(ir.Flatten)
        chain.add_dense()
    if len(chain.shape) == 1 and rng.random() < 0.3:
        chain.put(ir.ArgMax)
    return chain.graph, chain.folding, chain.protection


def broad_network(
    rng: np.random.Generator,
) -> tuple[ir.Graph, dict[str, Fold], dict[str, Protection]]:
    """A network with rows of 4, 8 or 12 pixels, most layers several pixels a cycle."""
    while True:
        kind = random_dag if rng.random() < 0.6 else random_network
        graph, folding, protection = kind(rng, int(rng.choice([4, 8, 12])))
        for node in circuit_nodes(graph):
            fold = _broad(rng, graph, node, free=not protection.get(node.name, NONE).neurons)
            if fold and rng.random() < 0.85:
                folding[node.name] = fold
        if initiation_interval(configure(graph, folding, protection)) <= MOST_CYCLES:
            return graph, folding, protection


def harden(
    rng: np.random.Generator, graph: ir.Graph, protection: dict[str, Protection]
) -> dict[str, Protection]:
    """The protection with codes of streams and weights, and guarded registers, drawn by `rng`."""
    found = {}
    for node in circuit_nodes(graph):
        codes = {"weights": ("none", "parity", "secded")} if hasattr(node, "weight") else {}
        codes |= {
            "stream": CODES,
            "post": ("none", "parity", "dup", "tmr"),
            "control": ("none", "parity", "tmr"),
        }
        drawn = {key: str(rng.choice(values)) for key, values in codes.items()}
        found[node.name] = dataclasses.replace(protection.get(node.name, NONE), **drawn)
    return found


def _broad(rng: np.random.Generator, graph: ir.Graph, node: ir.Node, *, free: bool) -> Fold | None:
    """A folding of whole pixels that is soon simulated; `free`: shift-adds are possible."""
    weights = node.weight.size if isinstance(node, ir.Conv2d) else 1
    found = [
        fold for fold, _ in broad_foldings(graph, node)
        if fold.pixels * weights <= MOST_MULTIPLIERS and fold.pixels * fold.pe <= MOST_LANES
    ]  # fmt: skip
    if not found:
        return None
    drawn = str(rng.choice(["dsp", "lut", "dsp2", *["shift"] * (free and weights <= 72)]))
    return dataclasses.replace(found[rng.integers(len(found))], multiplier=drawn)


class _Chain:
    """Nodes in order; `x` the newest tensor of some frames, `kind` its type, `name` its name."""

    def __init__(self, rng: np.random.Generator, width: int | None) -> None:
        self.rng = rng
        height, drawn = (int(n) for n in rng.integers(3, 8, 2))
        shape = (height, width or drawn, int(rng.integers(1, 4)))
        self.few_bits = bool(rng.random() < 0.4)
        bits, signed = int(rng.integers(1, 9)), bool(rng.integers(2))
        if self._binary() or (signed and bits == 1):
            self.kind, values = BIPOLAR, np.array([-1, 1])
        else:
            plain = ir.TensorType(bits, signed)
            values = np.arange(plain.lo, plain.hi + 1)
            zero = int(rng.choice(values)) if rng.random() < 0.5 else 0
            self.kind = ir.TensorType(bits, signed, zero)
        self.x = rng.choice(values, (FRAMES, *shape))
        self.nodes: tuple[ir.Node, ...] = ()
        self.name = "x"
        self.input = (shape, self.kind)
        self.folding: dict[str, Fold] = {}
        self.protection: dict[str, Protection] = {}

    def _binary(self) -> bool:
        """Whether the next tensor is bipolar: often in a network of few bits, else never."""
        return self.few_bits and bool(self.rng.random() < 0.6)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.x.shape[1:]

    def put(self, kind: type, *, fold: Fold | None = None, **fields) -> str:
        """Append a node; one with `requantize` gets a table for its own accumulators."""
        node = kind(name=self._next(kind), inputs=(self.name,), **fields)
        if kind is not ir.ArgMax:  # the last node; its input is wider than a graph's
            node = self._run(node)
        return self._append(node, fold)

    def _next(self, kind: type) -> str:
        return f"{kind.__name__.lower()}{len(self.nodes)}"

    def _append(self, node: ir.Node, fold: Fold | None) -> str:
        """The node becomes the newest."""
        name = node.name
        self.nodes, self.name = (*self.nodes, node), name
        if fold:
            self.folding[name] = fold
        return name

    @property
    def graph(self) -> ir.Graph:
        shape, first = self.input
        return ir.Graph("random", "x", shape, first, self.nodes, self.name)

    def add_branch(self) -> None:
        """A fork: a branch of a layer or two, and the tensor itself or a layer; they meet."""
        start = (self.x, self.kind, self.name)
        ends = []
        for most in (2, 1):
            self.x, self.kind, self.name = start
            for _ in range(int(self.rng.integers(1 if most == 2 else 0, most + 1))):
                self.add_conv2d(same=True)
            ends.append((self.x, self.kind, self.name))
        if ends[0][0].shape == ends[1][0].shape and self.rng.random() < 0.7:
            self.add_add(ends)
        else:
            self.add_concat(ends)

    def add_add(self, ends: list) -> None:
        """A sum whose scales fit what the operands hold."""
        rng, (kinds, bits) = self.rng, ([kind for _, kind, _ in ends], int(self.rng.integers(3, 9)))
        signed, shift = bool(rng.integers(2)), int(rng.choice([0, 1, 6, 14]))
        plain = ir.TensorType(bits, signed)
        zero = int(rng.integers(plain.lo, plain.hi + 1))
        scale = 2.0**shift * (plain.hi - plain.lo) / sum(k.hi - k.lo for k in kinds)
        multipliers = tuple(max(1, round(scale * f)) for f in rng.uniform(0.5, 1.5, 2))
        low = zero if rng.random() < 0.4 else None
        out = ir.TensorType(bits, signed, zero)
        names = tuple(name for _, _, name in ends)
        node = ir.Add(
            name=self._next(ir.Add), inputs=names, multipliers=multipliers, shift=shift,
            out=out, lo=low,
        )  # fmt: skip
        self._meet(node, ends, self.divisor(ends[0][0].shape[-1]))

    def add_concat(self, ends: list) -> None:
        """Channels side by side; the first operand may pass unchanged."""
        keep = not ends[0][1].bipolar and self.rng.random() < 0.5
        out = ends[0][1] if keep else ir.TensorType(4, bool(self.rng.integers(2)), 1)
        tables = []
        for i, (x, kind, _) in enumerate(ends):
            same = (kind.bits, kind.signed, kind.zero_point) == (
                out.bits, out.signed, out.zero_point
            )  # fmt: skip
            tables.append(None if keep and (i == 0 or same) else self._rescale(x, kind, out))
        names = tuple(name for _, _, name in ends)
        node = ir.Concat(name=self._next(ir.Concat), inputs=names, requantize=tables, out=out)
        common = math.gcd(*(x.shape[-1] for x, _, _ in ends))
        self._meet(node, ends, self.divisor(common))

    def _rescale(self, x: np.ndarray, kind: ir.TensorType, out: ir.TensorType) -> ir.Requantize:
        scale = (out.hi - out.lo) / (kind.hi - kind.lo)
        count = int(self.rng.choice([1, x.shape[-1]]))
        ideal = scale * self.rng.uniform(0.5, 1.5, count) * 2**10
        if self.rng.random() < 0.3:
            return ir.Requantize(np.ones(1, int), np.array([2]), out)
        multiplier = np.clip(np.rint(ideal), 1, 65535).astype(int)
        return ir.Requantize(multiplier, np.full(count, 10), out)

    def _meet(self, node: ir.Node, ends: list, pe: int) -> None:
        """The node of two branches, executed on what they hold."""
        graph = self._graph_to(node)
        self.kind = ranges.types(graph)[node.name]
        self.x = Reference(graph).evaluate(node, [x for x, _, _ in ends])
        self._append(node, Fold(pe))
        self.protection[node.name] = Protection(control=str(self.rng.choice(["none", "parity"])))

    def _graph_to(self, node: ir.Node) -> ir.Graph:
        shape, first = self.input
        return ir.Graph("random", "x", shape, first, (*self.nodes, node), node.name)

    def add_pad(self) -> None:
        """A border, and sometimes more channels."""
        rng, channels = self.rng, (0, 0)
        if rng.random() < 0.4:
            channels = tuple(int(n) for n in rng.integers(0, 3, 2))
        padding = tuple(int(n) for n in rng.integers(0, 3, 4))
        if self.kind.bipolar:  # it has no zero
            padding, channels = (0, 0, 0, 0), (0, 0)
        common = math.gcd(self.shape[2], *channels)
        name = self.put(ir.Pad, fold=Fold(self.divisor(common)), padding=padding, channels=channels)
        self.protection[name] = Protection(control=str(rng.choice(["none", "parity"])))

    def _run(self, node: ir.Node) -> ir.Node:
        """The node with its table; `x` and `kind` become its result's."""
        alone = self._alone(node)
        if getattr(node, "requantize", None) is not None:
            acc, few = alone.accumulate(node, [self.x]), isinstance(node, ir.Conv2d | ir.Dense)
            steps = few and self.rng.random() < (0.9 if self.few_bits else 0.3)
            table = self._steps(acc) if steps else self._table(acc)
            node = dataclasses.replace(node, requantize=table)
            alone = self._alone(node)
        self.x, self.kind = alone.evaluate(node, [self.x]), alone.types[node.name]
        return node

    def _alone(self, node: ir.Node) -> Reference:
        """The executor of this node alone, on the newest tensor."""
        graph = ir.Graph("alone", node.inputs[0], self.shape, self.kind, (node,), node.name)
        return Reference(graph)

    def _steps(self, acc: np.ndarray) -> ir.Thresholds:
        """Thresholds among what is in `acc`, for one type of 1..4 bits or bipolar."""
        rng, channels = self.rng, acc.shape[-1]
        bits, signed = 1 if self._binary() else int(rng.integers(1, 5)), bool(rng.integers(2))
        out = BIPOLAR if signed and bits == 1 else ir.TensorType(bits, signed)
        drawn = rng.choice(acc.ravel(), (int(rng.choice([1, channels])), (1 << bits) - 1))
        return ir.Thresholds(np.sort(drawn, axis=1), out)

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
        if self.kind.bipolar:  # it has no zero to pad with
            padding = [0] * 4
        return {"kernel": tuple(kernel), "stride": tuple(stride), "padding": tuple(padding)}

    def linear(self, shape: tuple[int, ...]) -> dict[str, object]:
        """Weights and bias of a layer whose weights have this shape."""
        bits = 1 if self._binary() else int(self.rng.integers(1, 9))
        limit = 1 << (bits - 1)
        weight = self.rng.integers(-limit, limit, shape)
        return {
            "weight": 2 * weight + 1 if bits == 1 else weight,
            "bias": self.rng.integers(-100, 100, shape[0]) // (1 + 9 * (bits == 1)),
            "weight_bits": bits,
            "weight_bipolar": bits == 1,
        }

    def guard(self, name: str, channels: int) -> None:
        """Protect some layers, in every combination of checksum, replicas and control parity."""
        rng = self.rng
        modulus = int(rng.choice([3, 7, 15, 255])) if rng.random() < 0.4 else None
        neurons = tuple(rng.choice(channels, 1).tolist()) if rng.random() < 0.3 else ()
        control = "parity" if rng.random() < 0.4 else "none"
        self.protection[name] = Protection(modulus, neurons, control)

    def add_conv2d(self, *, same: bool = False) -> None:
        """A convolution; `same`: the image keeps its size."""
        rng, channels = self.rng, self.shape[2]
        dilation = tuple(int(n) for n in rng.integers(1, 3, 2)) if rng.random() < 0.3 else (1, 1)
        window = self.window(dilation)
        kernel = window.pop("kernel")
        if same:
            kernel = tuple(int(n) for n in rng.choice([1] if self.kind.bipolar else [1, 2, 3], 2))
            dilation = (1, 1)
            before = [(k - 1) // 2 for k in kernel]
            after = [k - 1 - b for k, b in zip(kernel, before, strict=True)]
            window = {"stride": (1, 1), "padding": (*before, *after)}
        groups = self.divisor(channels)
        count = groups * int(rng.integers(1, 5))
        inner = math.prod(kernel) * channels // groups
        pe, simd = self.divisor(count // groups), self.divisor(inner)
        if rng.random() < 0.5:  # groups side by side
            pe = count // groups * self.divisor(groups)
            simd = channels // groups * self.divisor(math.prod(kernel))
        fold = Fold(pe, simd, str(rng.choice(MULTIPLIERS)))
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
        whole = bool(self.rng.integers(2))
        self.put(ir.AvgPool, fold=fold, requantize=ANY, count_include_pad=whole, **self.window())

    def add_globalavgpool(self) -> None:
        self.put(ir.GlobalAvgPool, fold=Fold(self.divisor(self.shape[2])), requantize=ANY)

    def add_dense(self, requantize: ir.Requantize | None = None) -> None:
        features, count = self.shape[0], int(self.rng.integers(2, 7))
        fold = Fold(self.divisor(count), self.divisor(features))
        fields = self.linear((count, features))
        self.guard(self.put(ir.Dense, fold=fold, requantize=requantize, **fields), count)


BIPOLAR = ir.TensorType(1, True, bipolar=True)
MULTIPLIERS = ("dsp", "lut")
ANY = ir.Requantize(np.ones(1, int), np.zeros(1, int), ir.TensorType(8, True))
"""In place of the table that `put` fits to the accumulators."""
