"""A list of tensor faults against a graph: every record strikes a word that is there."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import InputError
from ..ir import Conv2d, Dense, Graph, IntArray, Node, Thresholds
from ..names import printable
from .machine import Layers
from .records import LAST, Op, Tensor, TensorFaults

__all__ = ["check"]

MAX_WIDTH = 60
BIT_OPS = (Op.FLIP, Op.CLEAR, Op.SET)


def check(graph: Graph, layers: Layers, faults: TensorFaults, inputs: int) -> None:
    """Raises InputError naming the layer: no fault at all, an unknown layer, a word that the layer
    does not have, an index, step or bit outside of it, a change of no bit."""
    if not len(faults.experiment):
        raise InputError("tensor faults: the list is empty; raise the rate or the experiments")
    if faults.frame.min() < 0 or faults.frame.max() >= inputs:
        raise InputError(f"tensor faults: inputs must be 0..{inputs - 1}")
    known = {graph.input_name, *(node.name for node in graph)}
    for number, name in enumerate(faults.layers):
        rows = np.flatnonzero(faults.layer == number)
        if name not in known:
            raise InputError(f"tensor faults: no layer {printable(name)!r} in the graph")
        for kind in np.unique(faults.tensor[rows]):
            if kind not in list(Tensor):
                raise InputError(f"layer {name}: tensor {kind} is none of {_names(Tensor)}")
            some = rows[faults.tensor[rows] == kind]
            node = None if name == graph.input_name else graph.node(name)
            _check_kind(layers, node, name, Tensor(kind), faults, some)


def _names(kinds: Any) -> str:
    return ", ".join(kind.name.lower() for kind in kinds)


def _check_kind(
    layers: Layers, node: Node | None, name: str, kind: Tensor, faults: TensorFaults, rows: IntArray
) -> None:
    where = f"layer {name}: {kind.name.lower()}"
    linear = isinstance(node, Conv2d | Dense)
    if kind != Tensor.ACTIVATION and not linear and not (kind == Tensor.INPUT and node):
        raise InputError(f"{where}: only convolutions and dense layers have one")
    size, bits = layers.elements(name), layers.types[name].bits
    terms = 0
    if isinstance(node, Conv2d | Dense):
        words = layers.words[name]
        terms = words.terms
        sizes = {Tensor.WEIGHT: node.weight.size, Tensor.BIAS: node.out_channels}
        size = sizes.get(kind, size)
        bits = {
            Tensor.WEIGHT: node.weight_bits,
            Tensor.WEIGHT_READ: node.weight_bits,
            Tensor.INPUT_READ: words.act.bits,
            Tensor.PRODUCT: words.product.bits,
            Tensor.BIAS: words.acc.bits,
            Tensor.ACCUMULATOR: words.acc.bits,
        }.get(kind, bits)
        if kind == Tensor.PREACTIVATION and isinstance(node.requantize, Thresholds):
            raise InputError(f"{where}: thresholds have no word before the activation")
    if kind == Tensor.INPUT and node is not None:
        size, bits = layers.elements(node.inputs[0]), layers.types[node.inputs[0]].bits
    _within(where, "index", faults.index[rows], 0, size - 1)
    if kind in (Tensor.WEIGHT_READ, Tensor.INPUT_READ, Tensor.PRODUCT):
        _within(where, "step", faults.step[rows], 0, terms - 1)
        _within(where, "span", faults.span[rows], 1, terms)
        _within(where, "last product", faults.step[rows] + faults.span[rows], 1, terms)
    elif kind == Tensor.ACCUMULATOR:
        _within(where, "step", faults.step[rows], LAST, terms - 1)
    _check_change(where, kind, faults, rows, bits)


def _check_change(
    where: str, kind: Tensor, faults: TensorFaults, rows: IntArray, bits: int
) -> None:
    _within(where, "width", faults.width[rows], 0, MAX_WIDTH)
    _within(where, "op", faults.op[rows], min(Op), max(Op))
    own = kind in (Tensor.PRODUCT, Tensor.ACCUMULATOR, Tensor.BIAS)
    width = np.where((faults.width[rows] > 0) & own, faults.width[rows], bits)
    if kind == Tensor.PRODUCT:
        width += np.where(faults.width[rows] > 0, 0, np.ceil(np.log2(faults.span[rows]))).astype(
            int
        )
    masks = np.isin(faults.op[rows], BIT_OPS)
    value = faults.value[rows]
    if (masks & ((value < 1) | (value >> width > 0))).any():
        raise InputError(f"{where}: a mask must have a bit set, and none beyond its word")


def _within(where: str, what: str, values: IntArray, low: int, high: int) -> None:
    if len(values) and (values.min() < low or values.max() > high):
        raise InputError(f"{where}: {what} must lie in {low}..{high}")
