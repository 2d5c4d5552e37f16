"""The integer nodes of an importer become a graph: tidied, named, checked.

Each pass takes the nodes by name and the output's name; what they compute stays the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Protocol

from .. import ir, shapes
from ..errors import InputError
from ..names import printable, sanitize
from .onnx_file import OnnxGraph

__all__ = ["finish_graph"]

Nodes = dict[str, ir.Node]


class Finished(Protocol):
    """What a walk leaves behind; `paths` are the ONNX names of nodes that have another name."""

    graph: OnnxGraph
    input_kind: ir.TensorType | None
    paths: dict[str, str]

    @property
    def parts(self) -> Mapping[str, ir.Node]:
        """The nodes made, by name."""

    def source(self) -> tuple[tuple[int, ...], bool]:
        """The input's shape without batch, and whether ONNX sees it channels last."""


def finish_graph(walker: Finished, output: str) -> tuple[ir.Graph, dict[str, str]]:
    """The graph of a walk that made `output`, and the walk's names of tensors -> the graph's.

    Raises InputError naming a layer.
    """
    onnx = walker.graph
    if walker.input_kind is None or output == onnx.input_name:
        raise InputError(
            f"input {printable(onnx.input_name)}: is not quantised (missing scales); put a "
            "QuantizeLinear and a DequantizeLinear behind it"
        )
    shape, last = walker.source()
    if len(shape) == 3 and not last:
        shape = (*shape[1:], shape[0])
    nodes = _prune(walker.parts, output)
    nodes = _fuse_padding(nodes, output)
    names = _names(nodes, onnx.input_name, walker.paths)
    try:
        graph = ir.Graph(
            name=sanitize(onnx.name, set()),
            input_name=names[onnx.input_name],
            input_shape=shape,
            input_type=walker.input_kind,
            nodes=tuple(_renamed(node, names) for node in nodes.values()),
            output=names[output],
        )
    except ValueError as error:
        raise InputError(str(error)) from error
    graph, dropped = _pool_to_vector(graph)
    return graph, {key: dropped.get(name, name) for key, name in names.items()}


def _prune(nodes: Mapping[str, ir.Node], output: str) -> Nodes:
    """Drop nodes that the output does not need."""
    needed = {output}
    for node in reversed(list(nodes.values())):
        if node.name in needed:
            needed.update(node.inputs)
    return {name: node for name, node in nodes.items() if name in needed}


def _readers(nodes: Nodes, name: str) -> list[ir.Node]:
    return [node for node in nodes.values() if name in node.inputs]


def _fuse_padding(nodes: Nodes, output: str) -> Nodes:
    """Before: pad -> conv. After: conv with more padding, where that stays below the window."""
    for pad in list(nodes.values()):
        if not isinstance(pad, ir.Pad) or any(pad.channels) or pad.name == output:
            continue
        readers = _readers(nodes, pad.name)
        if len(readers) != 1 or not isinstance(readers[0], ir.Conv2d):
            continue
        conv = readers[0]
        top, left, bottom, right = (a + b for a, b in zip(pad.padding, conv.padding, strict=True))
        if max(top, bottom) < conv.extent[0] and max(left, right) < conv.extent[1]:
            padding = (top, left, bottom, right)
            nodes[conv.name] = dataclasses.replace(conv, padding=padding, inputs=pad.inputs)
            del nodes[pad.name]
    return nodes


def _pool_to_vector(graph: ir.Graph) -> tuple[ir.Graph, dict[str, str]]:
    """Before: average pool of the whole image -> flatten. After: global average pool.

    The second result names the pool that took each dropped flatten's place.
    """
    sizes = shapes.infer(graph)
    nodes = {node.name: node for node in graph}
    output, dropped = graph.output, {}
    for pool in graph:
        readers = graph.consumers(pool.name)
        if not isinstance(pool, ir.AvgPool) or any(pool.padding) or pool.name == graph.output:
            continue
        whole = pool.kernel == sizes[pool.inputs[0]][:2]
        if not whole or len(readers) != 1 or not isinstance(readers[0], ir.Flatten):
            continue
        vector = ir.GlobalAvgPool(
            name=pool.name, inputs=nodes[pool.name].inputs, requantize=pool.requantize
        )
        nodes = _skip({**nodes, pool.name: vector}, readers[0].name, pool.name)
        output = pool.name if output == readers[0].name else output
        dropped[readers[0].name] = pool.name
    return dataclasses.replace(graph, nodes=tuple(nodes.values()), output=output), dropped


def _skip(nodes: Nodes, dropped: str, stand_in: str) -> Nodes:
    """The nodes without `dropped`, whose readers read `stand_in`."""
    return {
        name: dataclasses.replace(
            node, inputs=tuple(stand_in if i == dropped else i for i in node.inputs)
        )
        for name, node in nodes.items()
        if name != dropped
    }


def _names(nodes: Nodes, source: str, paths: Mapping[str, str]) -> dict[str, str]:
    """Safe unique names after the ONNX nodes."""
    taken: set[str] = set()
    names = {}
    for key in (source, *nodes):
        names[key] = sanitize(paths.get(key, key), taken)
        taken.add(names[key])
    return names


def _renamed(node: ir.Node, names: Mapping[str, str]) -> ir.Node:
    inputs = tuple(names[name] for name in node.inputs)
    return dataclasses.replace(node, name=names[node.name], inputs=inputs)
