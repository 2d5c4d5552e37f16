"""Small random networks to synthesise, each drawn from its number alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...hw.config import MODULI, LayerConfig
from ...hw.configure import Fold, Protection, configure
from ...quant.ir import (
    Add,
    ArgMax,
    AvgPool,
    Concat,
    Conv2d,
    Dense,
    Flatten,
    Graph,
    MaxPool,
    Node,
    Pad,
    Requantize,
    TensorType,
    Thresholds,
)

__all__ = ["Sample", "sample"]

BIPOLAR = TensorType(1, True, bipolar=True)

FEW_BITS_EVERY = 9
"""One design in so many is of few bits: thresholds, bipolar weights and activations."""

JOINS_EVERY, JOINS_AT = 9, 6
"""One design in so many has branches that meet; designs are numbered from 0."""

DEEP_FROM = 100
"""Designs from this number on are one dense layer whose weights are a deep table in logic."""

MOST_MULTIPLIERS = 24
"""Multipliers of a sampled layer: synthesis of a design stays below a minute."""


class Sample:
    """A small random network with its folding and protection, drawn from `seed`.

    Attributes: `graph`, `folding`, `protection`; `layers`, the configured circuits.
    """

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.folding: dict[str, Fold] = {}
        self.protection: dict[str, Protection] = {}
        self._nodes: list[Node] = []
        self._modulus = int(self.rng.choice(MODULI)) if self.rng.random() < 0.4 else None
        checked = self._modulus is not None and self.rng.random() < 0.75
        self._control = "parity" if checked else "none"
        self._weight_bits = int(self.rng.choice([3, 4, 8, 8, 8]))
        few = seed % FEW_BITS_EVERY == FEW_BITS_EVERY - 1
        self._few = np.random.default_rng([seed, 1]) if few else None
        if self._few is not None:
            self._weight_bits = int(self._few.choice([1, 1, 2]))
        joins = seed % JOINS_EVERY == JOINS_AT
        self._joins = np.random.default_rng([seed, 2]) if joins else None
        self._multiplier = str(self.rng.choice(["dsp", "dsp", "lut"]))
        edge = int(self.rng.integers(4, 12))
        kind = TensorType(int(self.rng.choice([4, 8, 8])), bool(self.rng.integers(2)))
        if self._few is not None and self._few.random() < 0.5:
            kind = BIPOLAR
        self._type = kind
        start = (edge, edge, int(self.rng.choice([1, 2, 3, 4, 8])))
        self._shape, self._last = start, "x"
        if seed >= DEEP_FROM:
            start = self._shape = (1, 1, int(self.rng.choice([64, 96, 128])))
            self._deep()
        for index in range(int(self.rng.integers(1, 5)) if seed < DEEP_FROM else 0):
            self._image_layer(index)
            if self._joins is not None:
                self._join(index, self._joins)
        if seed < DEEP_FROM and self.rng.random() < 0.7:
            self._dense()
        self.graph = Graph("sample", "x", start, kind, tuple(self._nodes), self._last)

    @property
    def layers(self) -> tuple[LayerConfig, ...]:
        """The circuits' configuration."""
        return configure(self.graph, self.folding, self.protection)

    def _divisor(self, n: int, most: int) -> int:
        return int(self.rng.choice([d for d in range(1, n + 1) if n % d == 0 and d <= most]))

    def _requantize(self, channels: int, acc_bits: int) -> Requantize:
        """Scales that fill the output type and saturate now and then."""
        count = channels if self.rng.random() < 0.7 else 1
        out = TensorType(int(self.rng.choice([4, 8, 8, 8])), bool(self.rng.integers(2)))
        low = 0 if self.rng.random() < 0.7 else out.lo
        drop = max(0, acc_bits - out.bits - int(self.rng.integers(0, 3)))
        if self.rng.random() < 0.25:
            shift = np.full(count, drop)
            return Requantize(np.ones(count, dtype=np.int64), shift, out, lo=low)
        multiplier = self.rng.integers(1 << 15, 1 << 16, count)
        shift = drop + 15 + self.rng.integers(0, 3, count)
        return Requantize(multiplier, shift, out, lo=low)

    def _table(self, channels: int, acc_bits: int) -> Requantize | Thresholds:
        """Scales, or in a design of few bits thresholds spread over a quarter of the range."""
        if self._few is None:
            return self._requantize(channels, acc_bits)
        out = (BIPOLAR, TensorType(2, False), TensorType(4, True))[self._few.integers(3)]
        rows = channels if self._few.random() < 0.7 else 1
        half = 1 << max(1, acc_bits - 2)
        values = self._few.integers(-half, half, (rows, (1 << out.bits) - 1))
        return Thresholds(np.sort(values, axis=1), out)

    def _weights(self, *shape: int) -> Any:
        if self._few is not None and self._weight_bits == 1:
            return self._few.choice([-1, 1], shape)
        most = (1 << (self._weight_bits - 1)) - 1
        values = self.rng.normal(0, 0.35, shape) * most
        return np.clip(np.rint(values), -most, most).astype(np.int64)

    def _guard(self, name: str, channels: int) -> None:
        chosen = self.rng.choice(channels, max(1, channels // 4), replace=False)
        neurons = tuple(chosen.tolist()) if self.rng.random() < 0.2 else ()
        self.protection[name] = Protection(self._modulus, neurons, self._control)

    def _image_layer(self, index: int) -> None:
        kind = str(self.rng.choice(["conv", "conv", "conv", "max", "avg"]))
        height, width, channels = self._shape
        name, most = f"{kind}{index}", min(height, width)
        size = int(self.rng.integers(1, min(most, 4) + 1)) if kind == "conv" else min(2, most)
        stride = int(self.rng.choice([1, 1, 2])) if kind == "conv" else size
        pad = size // 2 if kind == "conv" and self.rng.random() < 0.6 else 0
        common: Any = {"name": name, "inputs": (self._last,), "stride": (stride, stride)}
        pad *= not self._type.bipolar
        common["padding"] = (pad,) * 4
        if kind == "conv":
            channels = self._convolution(common, size)
        else:
            self.folding[name] = Fold(self._divisor(channels, 4))
            self.protection[name] = Protection(control=self._control)
            node: Any = MaxPool(kernel=(size, size), **common)
            if kind == "avg":
                table = self._requantize(1, self._type.bits + 2)
                self._type = table.out
                node = AvgPool(kernel=(size, size), requantize=table, **common)
            self._nodes.append(node)
        edges = ((edge + 2 * pad - size) // stride + 1 for edge in (height, width))
        self._shape, self._last = (*edges, channels), name  # type: ignore[assignment]

    def _join(self, index: int, rng: np.random.Generator) -> None:
        """A border, or a convolution whose result meets its operand."""
        op = str(rng.choice(["pad", "add", "add", "concat"]))
        name, before, kind = f"{op}{index}", self._last, self._type
        height, width, channels = self._shape
        self.folding[name] = Fold(self._divisor(channels, 4))
        self.protection[name] = Protection(control=self._control)
        self._last = name
        if op == "pad":
            self._nodes.append(Pad(name=name, inputs=(before,), padding=(1, 0, 1, 2)))
            self._shape = (height + 2, width + 2, channels)
            return
        branch: Any = {"name": f"branch{index}", "inputs": (before,), "stride": (1, 1)}
        self._convolution({**branch, "padding": (1, 1, 1, 1)}, 3, channels)
        operands: Any = {"name": name, "inputs": (f"branch{index}", before)}
        if op == "add":
            self._type = out = TensorType(8, bool(rng.integers(2)))
            a, b = (int(m) for m in rng.integers(1, 1 << int(rng.choice([2, 8, 15])), 2))
            shift = max(a, b).bit_length()
            self._nodes.append(Add(**operands, multipliers=(a, b), shift=shift, out=out))
            return
        scale = Requantize(rng.integers(1 << 15, 1 << 16, channels), np.full(channels, 16), kind)
        self._type, self._shape = kind, (height, width, 2 * channels)
        self._nodes.append(Concat(**operands, requantize=(scale, None), out=kind))

    def _convolution(self, common: Any, size: int, channels: int | None = None) -> int:
        inputs, name = self._shape[2], common["name"]
        depthwise = self.rng.random() < 0.15
        groups = inputs if depthwise else 1
        drawn = inputs if depthwise else int(self.rng.choice([2, 4, 6, 8, 16]))
        channels = channels or drawn
        weight = self._weights(channels, size, size, inputs // groups)
        bias = self.rng.integers(-2000, 2000, channels)
        reach = int(np.abs(weight.reshape(channels, -1)).sum(axis=1).max())
        table = self._table(channels, self._type.bits + reach.bit_length())
        self._type = table.out
        self._nodes.append(
            Conv2d(
                weight=weight, bias=bias, groups=groups, requantize=table,
                weight_bits=self._weight_bits, weight_bipolar=self._weight_bits == 1, **common,
            )
        )  # fmt: skip
        self._fold(name, channels // groups, weight[0].size)
        self._guard(name, channels)
        return channels

    def _dense(self) -> None:
        inputs = int(np.prod(self._shape))
        outputs = int(self.rng.choice([2, 4, 8, 10, 10]))
        weight = self._weights(outputs, inputs)
        bias = self.rng.integers(-2000, 2000, outputs)
        self._nodes.append(Flatten(name="flat", inputs=(self._last,)))
        self._nodes.append(
            Dense(
                name="fc", inputs=("flat",), weight=weight, bias=bias,
                weight_bits=self._weight_bits, weight_bipolar=self._weight_bits == 1,
            )
        )  # fmt: skip
        self._fold("fc", outputs, inputs)
        self._guard("fc", outputs)
        self._last = "fc"
        if self.rng.random() < 0.3:
            self.protection["top1"] = Protection(control=self._control)
            self._nodes.append(ArgMax(name="top1", inputs=("fc",)))
            self._last = "top1"

    def _deep(self) -> None:
        """A dense layer of one or two lanes, its weights a table of thousands of words in logic."""
        inputs, outputs = self._shape[2], int(self.rng.choice([16, 24, 40]))
        self._weight_bits = int(self.rng.choice([4, 8, 8]))
        weight = self._weights(outputs, inputs)
        bias = self.rng.integers(-2000, 2000, outputs)
        self._nodes.append(Flatten(name="flat", inputs=("x",)))
        self._nodes.append(
            Dense(
                name="fc", inputs=("flat",), weight=weight, bias=bias,
                weight_bits=self._weight_bits,
            )
        )  # fmt: skip
        self.folding["fc"] = Fold(int(self.rng.choice([1, 2])), 1, "dsp", weights="logic")
        self.protection["fc"] = Protection(None, (), self._control)
        self._last = "fc"

    def _fold(self, name: str, outputs: int, inner: int) -> None:
        pe = self._divisor(outputs, 8)
        simd = self._divisor(inner, MOST_MULTIPLIERS // pe)
        self.folding[name] = Fold(pe, simd, self._multiplier)


def sample(seed: int) -> tuple[LayerConfig, ...]:
    """Circuits of a random network."""
    return Sample(seed).layers
