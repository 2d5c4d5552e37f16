"""A network before it is trained, as an integer graph: seeded weights, no torch, no images.

Nodes, operators, shapes and bit widths are those of `networks.module` after import and quantisation
(`tests/flow/search/test_skeleton.py` compares them), so that its circuit can be estimated. A
layer's numbers follow from its own shape and bits alone: equal layers of two networks are equal.
"""

from __future__ import annotations

import functools
import hashlib
import math
from typing import Any

import numpy as np

from ...quant import ir
from ...quant.scales import fit
from .candidate import NetworkSpec, StageSpec

__all__ = ["Skeleton", "bits_of", "skeleton"]

OTHER_SHIFT = 0.25
"""Share of channels whose shift is one more than the others' in scheme `pow2`."""

INPUT = "n_input"
"""What an import calls the input of a module."""

M_BITS = 16
SPREAD = 0.35
"""Standard deviation of the weights, in shares of the largest: about what training leaves."""

REACH = 4.0
"""Standard deviations of an accumulator that the type of the result covers."""

Bits = tuple[int, int, str]
"""Weight bits, activation bits, scheme."""


def bits_of(spec: NetworkSpec) -> Bits:
    """What a layer's numbers depend on beside its shape."""
    return spec.weight_bits, spec.act_bits, spec.scheme


def skeleton(spec: NetworkSpec) -> ir.Graph:
    """The integer graph of a network with weights that only its layers' shapes determine."""
    channels, height, width = spec.input_shape
    made = Skeleton(spec.family, bits_of(spec), (height, width, channels))
    for number, stage in enumerate(spec.stages, 1):
        made.stage(number, stage)
    made.head(spec.head, spec.classes)
    return made.graph(f"{spec.family}_{spec.digest[:8]}")


class Skeleton:
    """Builds a graph stage by stage; `shape` (h, w, c) is that of the last tensor, `last`."""

    def __init__(self, family: str, bits: Bits, shape: tuple[int, int, int]) -> None:
        self.family, self.bits = family, bits
        self.input = self.shape = shape
        self.last = INPUT
        self.nodes: list[ir.Node] = []

    def stage(self, number: int, stage: StageSpec) -> None:
        """Blocks of one width and kernel, and the pool behind them."""
        for block in range(1, stage.blocks + 1):
            name = f"s{number}b{block}"
            if self.family == "chain":
                self._convolution(f"{name}_conv", self.last, stage.width, stage.kernel)
            else:
                self._residual(name, stage)
        self.pool(f"s{number}_pool")

    def pool(self, name: str) -> None:
        """A 2x2 max pool."""
        self._append(
            ir.MaxPool(name=name, inputs=(self.last,), kernel=(2, 2), stride=(2, 2)),
            (self.shape[0] // 2, self.shape[1] // 2, self.shape[2]),
        )

    def head(self, head: str, classes: int) -> None:
        """The dense layer that makes the logits, on all elements or on the mean of the image."""
        if head == "mean":
            mean = _mean(self.last, math.prod(self.shape[:2]), self.bits)
            self._append(mean, (1, 1, self.shape[2]))
        else:
            self._append(ir.Flatten(name="flatten", inputs=(self.last,)), self.shape)
        self._append(_dense(self.last, classes, math.prod(self.shape), self.bits), (1, 1, classes))

    def graph(self, name: str = "piece") -> ir.Graph:
        """The graph up to the last node."""
        kind = ir.TensorType(self.bits[1], False)
        return ir.Graph(name, INPUT, self.input, kind, tuple(self.nodes), self.last)

    def _append(self, node: ir.Node, shape: tuple[int, int, int]) -> None:
        self.nodes.append(node)
        self.last, self.shape = node.name, shape

    def _convolution(
        self, name: str, source: str, width: int, kernel: int, *, signed: bool = False
    ) -> None:
        node = _convolution(name, source, self.shape[2], width, kernel, self.bits, signed)
        self._append(node, (*self.shape[:2], width))

    def _residual(self, name: str, stage: StageSpec) -> None:
        source, before = self.last, self.shape
        self._convolution(f"{name}_conv1", source, stage.width, stage.kernel)
        self._convolution(f"{name}_conv2", self.last, stage.width, stage.kernel, signed=True)
        branch, after = self.last, self.shape
        projected = before[2] != stage.width
        if projected:
            self.shape = before
            self._convolution(f"{name}_skip", source, stage.width, 1, signed=True)
        skip = f"{name}_skip" if projected else source
        self._append(_sum(f"{name}_add", branch, skip, self.bits, projected), after)


@functools.lru_cache(maxsize=4096)
def _convolution(
    name: str, source: str, inputs: int, outputs: int, kernel: int, bits: Bits, signed: bool
) -> ir.Conv2d:
    """A convolution that keeps the size of the image; shared by all graphs that hold it."""
    rng = _rng("conv", inputs, outputs, kernel, *bits, signed)
    weight, bias = _numbers(rng, (outputs, kernel, kernel, inputs), bits)
    return ir.Conv2d(
        name=name,
        inputs=(source,),
        weight=weight,
        bias=bias,
        weight_bits=bits[0],
        padding=((kernel - 1) // 2,) * 4,
        requantize=_requantize(rng, weight, bias, bits, signed),
    )


@functools.lru_cache(maxsize=1024)
def _dense(source: str, classes: int, features: int, bits: Bits) -> ir.Dense:
    """The last layer: its accumulators are the logits."""
    weight, bias = _numbers(_rng("dense", features, classes, *bits), (classes, features), bits)
    return ir.Dense(name="fc", inputs=(source,), weight=weight, bias=bias, weight_bits=bits[0])


@functools.lru_cache(maxsize=1024)
def _mean(source: str, count: int, bits: Bits) -> ir.GlobalAvgPool:
    """The largest mean of several is smaller than the largest element: its step is finer."""
    out = ir.TensorType(bits[1], False)
    finer = _step(1.6, bits[2]) if count > 1 else 1.0
    multiplier, shift = fit(np.array([finer / count]), M_BITS)
    table = ir.Requantize(multiplier, np.array([shift]), out, M_BITS, 0, out.hi)
    return ir.GlobalAvgPool(name="mean", inputs=(source,), requantize=table)


@functools.lru_cache(maxsize=1024)
def _sum(name: str, branch: str, skip: str, bits: Bits, projected: bool) -> ir.Add:
    """The sum of a block, clamped at 0; a signed operand has half the steps of an unsigned one."""
    out = ir.TensorType(bits[1], False)
    steps = (1.8, 0.8) if projected else (1.2, 0.55)
    ratios = np.array([_step(step, bits[2]) for step in steps])
    multipliers, shift = fit(ratios, M_BITS)
    pair = int(multipliers[0]), int(multipliers[1])
    return ir.Add(name=name, inputs=(branch, skip), multipliers=pair, shift=shift, out=out, lo=0)


def _step(ratio: float, scheme: str) -> float:
    """A ratio of two steps; a power of two in scheme `pow2`."""
    return 2.0 ** round(math.log2(ratio)) if scheme == "pow2" else ratio


def _rng(*key: Any) -> np.random.Generator:
    """A generator that a layer's shape and bits determine."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def _numbers(
    rng: np.random.Generator, shape: tuple[int, ...], bits: Bits
) -> tuple[ir.IntArray, ir.IntArray]:
    """Weights of which each channel's largest fills its bits, and biases.

    The first channel can reach the most and the least: ranges of results are those of their types.
    """
    top = (1 << (bits[0] - 1)) - 1
    weight = np.clip(np.rint(rng.normal(0.0, SPREAD, shape) * top), -top, top).astype(np.int64)
    rows = weight.reshape(shape[0], -1)
    place = rng.integers(rows.shape[1], size=len(rows))
    rows[np.arange(len(rows)), place] = top * rng.choice([-1, 1], len(rows))
    rows[0, place[0]] = top
    bias = np.rint(rng.normal(0.0, 0.25, len(rows)) * top * ((1 << bits[1]) - 1)).astype(np.int64)
    bias[0] = -abs(bias[0]) // 4
    return weight, bias


def _requantize(
    rng: np.random.Generator, weight: ir.IntArray, bias: ir.IntArray, bits: Bits, signed: bool
) -> ir.Requantize:
    """From accumulators to `act_bits`: channels have steps of their own, within a factor of four.

    The result's type covers `REACH` standard deviations, and never more than the first channel has.
    """
    _, act_bits, scheme = bits
    out = ir.TensorType(act_bits, signed)
    rows = weight.reshape(len(weight), -1)
    largest = (1 << act_bits) - 1
    reach = REACH * math.sqrt(float((rows**2).sum(axis=1).mean())) * largest * SPREAD
    most = float(np.maximum(rows[0], 0).sum()) * largest + float(bias[0])
    ratio = out.hi / min(reach, 0.9 * most)
    if scheme == "pow2":
        shift = math.floor(math.log2(1 / ratio))
        shifts = np.maximum(shift + (rng.random(len(rows)) < OTHER_SHIFT), 0)
        shifts[0] = max(shift, 0)
        ones = np.ones(len(rows), dtype=np.int64)
        return ir.Requantize(ones, shifts.astype(np.int64), out, M_BITS, *_clamp(out, signed))
    ratios = ratio * rng.uniform(0.5, 2.0, len(rows))
    ratios[0] = ratio
    multiplier, one = fit(ratios, M_BITS)
    shifts = np.full(len(multiplier), one)
    return ir.Requantize(multiplier, shifts, out, M_BITS, *_clamp(out, signed))


def _clamp(out: ir.TensorType, signed: bool) -> tuple[int, int]:
    return (out.lo, out.hi) if signed else (0, out.hi)
