"""Two machines that run a graph whose tensors a fault may have moved anywhere in their types.

They share no arithmetic below the faults: one is `reference` on NumPy, the other `execute` on
torch, on any device. Tensors are int64, channels last; arrays of indices come from the host.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .. import ranges, shapes
from ..errors import InputError
from ..execute import accumulate, evaluate
from ..ir import Conv2d, Dense, Graph, IntArray, Node
from ..reference import Reference, check_input
from .layer import LayerWords, operand_places

__all__ = ["Layers", "NumpyMachine", "TorchMachine", "machine"]

WHOLE_ENTRIES, WHOLE_WORK = 1 << 20, 4


class NumpyMachine:
    """The integer reference; sums in a float type that holds them for any operand.

    `xp` is the array module; `array` brings an array to the device and `host` back.
    """

    xp: Any = np

    def __init__(self, graph: Graph) -> None:
        found = _widened(graph)
        self._model = Reference(graph, found)
        sizes, self._kinds = self._model.shapes, self._model.types
        self._whole = {
            node.name: _whole(node, sizes[node.inputs[0]], sizes[node.name])
            for node in graph
            if isinstance(node, Conv2d) and _small(node, sizes, found[node.name])
        }

    def array(self, values: Any) -> Any:
        """As it is."""
        return values

    def host(self, values: Any) -> Any:
        """As it is."""
        return values

    def accumulate(self, node: Conv2d | Dense, operands: Sequence[Any]) -> Any:
        """The exact accumulator, bias included."""
        whole = self._whole.get(node.name)
        if whole is None:
            return self._model.accumulate(node, operands)
        images = len(operands[0])
        centred = operands[0].reshape(images, -1) - self._kinds[node.inputs[0]].zero_point
        sums = (centred.astype(np.float32) @ whole).astype(np.int64)
        return sums.reshape(images, *self._model.shapes[node.name]) + node.bias

    def other(self, node: Node, operands: Sequence[Any]) -> Any:
        """The tensor of a node that is no convolution and no dense layer."""
        return self._model.evaluate(node, operands)


class TorchMachine:
    """The torch executor's layers on `device`; InputError where torch or the device is missing."""

    def __init__(self, graph: Graph, device: str) -> None:
        try:
            import torch
        except ImportError:
            raise InputError(
                "software engine: torch is missing; pip install 'tercet[torch]'"
            ) from None
        self.xp: Any = torch
        self.device = device
        self._kinds = ranges.types(graph)
        try:
            torch.zeros(1, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"software engine: device {device!r} cannot be used: {reason}"
            ) from None

    def array(self, values: Any) -> Any:
        """A copy on the device."""
        return self.xp.tensor(np.ascontiguousarray(values), device=self.device)

    def host(self, values: Any) -> Any:
        """A copy in NumPy."""
        return values.cpu().numpy()

    def accumulate(self, node: Conv2d | Dense, operands: Sequence[Any]) -> Any:
        """The exact accumulator, bias included."""
        return self._run(accumulate, node, operands)

    def other(self, node: Node, operands: Sequence[Any]) -> Any:
        """The tensor of a node that is no convolution and no dense layer."""
        return self._run(evaluate, node, operands)

    def _run(self, function: Any, node: Node, operands: Sequence[Any]) -> Any:
        """Channels first and back. cuDNN rounds where exact sums are needed: it is off."""
        moved = [x.permute(0, 3, 1, 2) if x.dim() == 4 else x for x in operands]
        with self.xp.no_grad(), self.xp.backends.cudnn.flags(enabled=False):
            found = function(node, moved, [self._kinds[name] for name in node.inputs])
        return found.permute(0, 2, 3, 1).contiguous() if found.dim() == 4 else found


def machine(graph: Graph, device: str | None) -> NumpyMachine | TorchMachine:
    """NumPy without a device, else torch on it ("cpu", "cuda")."""
    return NumpyMachine(graph) if device is None else TorchMachine(graph, device)


def _small(node: Conv2d, sizes: Mapping[str, shapes.Shape], found: ranges.Range) -> bool:
    """Whether one product with a matrix of all weights at all positions is less work than to
    gather the windows: the map is hardly larger than the kernel."""
    entries = math.prod(sizes[node.inputs[0]]) * math.prod(sizes[node.name])
    macs = math.prod(sizes[node.name]) * node.weight[0].size
    return entries <= min(WHOLE_ENTRIES, WHOLE_WORK * macs) and found.acc_hi < 1 << 24


def _whole(node: Conv2d, operand: shapes.Shape, result: shapes.Shape) -> Any:
    """[operand elements, result elements] of weights; float32 holds every sum of a small layer."""
    places = operand_places(node, operand, result)
    matrix = np.zeros((math.prod(operand), len(places), node.out_channels), np.float32)
    each = node.out_channels // node.groups
    position, step = np.nonzero(places >= 0)
    for channel, weight in enumerate(node.weight.reshape(node.out_channels, -1)):
        offset = channel // each * (operand[-1] // node.groups)
        matrix[places[position, step] + offset, position, channel] = weight[step]
    return matrix.reshape(math.prod(operand), -1)


def _widened(graph: Graph) -> dict[str, ranges.Range]:
    """Ranges whose accumulators hold every sum of operands anywhere in their types."""
    found, kinds = ranges.infer(graph), ranges.types(graph)
    for node in graph:
        if isinstance(node, Conv2d | Dense):
            kind = kinds[node.inputs[0]]
            reach = max(kind.hi - kind.zero_point, kind.zero_point - kind.lo)
            weights = np.abs(node.weight.reshape(node.out_channels, -1)).sum(axis=1)
            largest = int((weights * reach + np.abs(node.bias)).max())
            found[node.name] = replace(found[node.name], acc_lo=-largest, acc_hi=largest)
    return found


class Layers:
    """The layers of a graph on a machine, with the words of the linear ones.

    `acc_bits` by layer replaces the proven width of its accumulator (a checksum adds a bit).
    """

    def __init__(
        self, graph: Graph, device: str | None, acc_bits: Mapping[str, int] | None
    ) -> None:
        self.graph, self.machine = graph, machine(graph, device)
        self.shapes, self.types = shapes.infer(graph), ranges.types(graph)
        bounds = ranges.infer(graph)
        self.words = {
            node.name: LayerWords(
                node,
                (self.types[node.inputs[0]], self.types[node.name]),
                (self.shapes[node.inputs[0]], self.shapes[node.name]),
                (acc_bits or {}).get(node.name, bounds[node.name].raw_bits),
                self.machine.xp,
                self.machine.array,
            )
            for node in graph
            if isinstance(node, Conv2d | Dense)
        }

    def evaluate(self, node: Node, operands: Sequence[Any], acc: Any = None) -> Any:
        """The node's tensor; a linear layer's accumulator, if known, is `acc`."""
        if not isinstance(node, Conv2d | Dense):
            return self.machine.other(node, operands)
        words = self.words[node.name]
        acc = self.machine.accumulate(node, operands) if acc is None else acc
        return words.finish(words.wrapped(acc))

    def execute(self, x: IntArray) -> dict[str, Any]:
        """Every fault-free tensor by name; x is [n, *input_shape]."""
        values = {self.graph.input_name: self.machine.array(check_input(self.graph, x))}
        for node in self.graph:
            values[node.name] = self.evaluate(node, [values[name] for name in node.inputs])
        return values

    def elements(self, name: str) -> int:
        """Elements of a tensor of one image."""
        return math.prod(self.shapes[name])
