"""Shapes of every tensor, and the checks of operands that a single node cannot make.

`infer` gives shapes, `declared_types` the types that the graph writes down. Both are what
docs/ir.md calls a valid graph; limits on sizes hold before anything is allocated.
"""

from __future__ import annotations

import math
from dataclasses import replace

from .errors import InputError
from .ir import (
    Add,
    ArgMax,
    AvgPool,
    Concat,
    Conv2d,
    Dense,
    Flatten,
    GlobalAvgPool,
    Graph,
    MaxPool,
    Node,
    Pad,
    Requantize,
    TensorType,
    Thresholds,
)

__all__ = ["MAX_ELEMENTS", "Shape", "declared_types", "infer"]

Shape = tuple[int, ...]
MAX_ELEMENTS = 1 << 26  # of one tensor of one image, padding included


def infer(graph: Graph) -> dict[str, Shape]:
    """Shape of every tensor by name, the input included: (h, w, c) or (features,).

    Raises InputError, naming the layer, for operands that do not fit: rank, channels, an empty
    result, tables of the wrong length, more than 2^26 elements, types (see `declared_types`).
    """
    declared_types(graph)
    shapes = {graph.input_name: graph.input_shape}
    _limit(graph.input_name, graph.input_shape)
    for node in graph:
        shape = _shape(node, [shapes[name] for name in node.inputs])
        _limit(node.name, shape)
        shapes[node.name] = shape
    return shapes


def declared_types(graph: Graph) -> dict[str, TensorType | None]:
    """Type of every tensor that has one written down; None for accumulators and indices.

    None comes from `requantize=None` and ArgMax. Such a tensor may feed Flatten and ArgMax only.
    Raises InputError for that, for padding of a bipolar operand (it has no zero) and for a Concat
    that passes an operand of another type.
    """
    kinds: dict[str, TensorType | None] = {graph.input_name: graph.input_type}
    for node in graph:
        operands = [kinds[name] for name in node.inputs]
        if None in operands and not isinstance(node, Flatten | ArgMax):
            source = node.inputs[operands.index(None)]
            raise InputError(
                f"{node.name}: operand {source} is an accumulator or an index, which only Flatten"
                f" and ArgMax read; give {source} a requantize"
            )
        if not isinstance(node, Flatten | ArgMax):
            _check_types(node, [kind for kind in operands if kind is not None])
        kinds[node.name] = _declared(node, operands)
    return kinds


def _declared(node: Node, operands: list[TensorType | None]) -> TensorType | None:
    match node:
        case Conv2d() | Dense():
            return None if node.requantize is None else node.requantize.out
        case AvgPool() | GlobalAvgPool():
            return node.requantize.out
        case Add() | Concat():
            return node.out
        case ArgMax():
            return None
    return operands[0]


def _check_types(node: Node, operands: list[TensorType]) -> None:
    match node:
        case Conv2d() | AvgPool() | Pad():
            extra = node.channels if isinstance(node, Pad) else ()
            if operands[0].bipolar and any(node.padding + extra):
                raise InputError(
                    f"{node.name}: a bipolar operand cannot be padded, it has no zero;"
                    " use padding 0 or a 2-bit type"
                )
        case Concat():
            for source, kind, item in zip(node.inputs, operands, node.requantize, strict=True):
                if item is None and replace(kind, scale=None) != replace(node.out, scale=None):
                    raise InputError(
                        f"{node.name}: operand {source} passes unchanged but has another type;"
                        " give it a requantize"
                    )


def _limit(name: str, shape: Shape) -> None:
    if math.prod(shape) > MAX_ELEMENTS:
        raise InputError(f"{name}: shape {shape} has more than {MAX_ELEMENTS} elements")


def _shape(node: Node, operands: list[Shape]) -> Shape:
    match node:
        case Dense():
            return _dense(node, operands[0])
        case Conv2d():
            return _conv(node, operands[0])
        case MaxPool() | AvgPool():
            out = _window(node.name, operands[0], node.kernel, node.stride, node.padding)
            if isinstance(node, AvgPool):
                _check_table(node.name, node.requantize, out[2])
            return out
        case GlobalAvgPool():
            channels = _rank(node.name, operands[0], 3)[2]
            _check_table(node.name, node.requantize, channels)
            return (channels,)
        case Add():
            if operands[0] != operands[1]:
                raise InputError(f"{node.name}: adds shapes {operands[0]} and {operands[1]}")
            return operands[0]
        case Concat():
            return _concat(node, operands)
        case Flatten():
            return (math.prod(operands[0]),)
        case Pad():
            height, width, channels = _rank(node.name, operands[0], 3)
            top, left, bottom, right = node.padding
            return height + top + bottom, width + left + right, channels + sum(node.channels)
        case ArgMax():
            _rank(node.name, operands[0], 1)
            return (1,)
    raise InputError(f"{node.name}: unknown operator {type(node).__name__}")


def _rank(name: str, shape: Shape, rank: int) -> Shape:
    if len(shape) != rank:
        want = "(h, w, c)" if rank == 3 else "(features,); put a Flatten before it"
        raise InputError(f"{name}: its operand has shape {shape}, it needs {want}")
    return shape


def _check_table(name: str, table: Requantize | Thresholds | None, channels: int) -> None:
    if table is None:
        return
    if isinstance(table, Thresholds):
        lengths = {"thresholds": len(table.values)}
    else:
        lengths = {"multiplier": len(table.multiplier)}
        if table.bound is not None:
            lengths["bound"] = len(table.bound)
    for field, length in lengths.items():
        if length not in (1, channels):
            raise InputError(f"{name}: {field} has {length} rows for {channels} channels; 1 or all")


def _dense(node: Dense, shape: Shape) -> Shape:
    (features,) = _rank(node.name, shape, 1)
    if features != node.weight.shape[1]:
        raise InputError(
            f"{node.name}: its operand has {features} features, weight is for"
            f" {node.weight.shape[1]}"
        )
    _check_table(node.name, node.requantize, node.out_channels)
    return (node.out_channels,)


def _conv(node: Conv2d, shape: Shape) -> Shape:
    channels = _rank(node.name, shape, 3)[2]
    if channels != node.weight.shape[3] * node.groups:
        raise InputError(
            f"{node.name}: its operand has {channels} channels, weight is for"
            f" {node.weight.shape[3]} in {node.groups} group(s)"
        )
    _check_table(node.name, node.requantize, node.out_channels)
    height, width, _ = _window(node.name, shape, node.extent, node.stride, node.padding)
    return height, width, node.out_channels


def _window(
    name: str,
    shape: Shape,
    extent: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
) -> Shape:
    height, width, channels = _rank(name, shape, 3)
    top, left, bottom, right = padding
    padded = (height + top + bottom, width + left + right, channels)
    if padded[0] < extent[0] or padded[1] < extent[1]:
        raise InputError(
            f"{name}: the window {extent} is larger than its padded operand {padded[:2]}"
        )
    _limit(f"{name}, padded operand", padded)
    rows = (padded[0] - extent[0]) // stride[0] + 1
    columns = (padded[1] - extent[1]) // stride[1] + 1
    return rows, columns, channels


def _concat(node: Concat, operands: list[Shape]) -> Shape:
    rank = len(operands[0])
    for source, shape, table in zip(node.inputs, operands, node.requantize, strict=True):
        if len(shape) != rank or shape[:-1] != operands[0][:-1]:
            raise InputError(f"{node.name}: joins {operands[0]} and {shape} (operand {source})")
        _check_table(node.name, table, shape[-1])
    return (*operands[0][:-1], sum(shape[-1] for shape in operands))
