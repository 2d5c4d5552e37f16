"""The software engine: the integer graph with faults in its tensors, many experiments at once.

An experiment starts at its first faulty layer from the golden tensors of its input; only what a
fault touches is computed there, and an experiment leaves as soon as every tensor still to be read
is golden again. NumPy, or torch on any device: the same integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...quant.errors import InputError
from ...quant.faults.check import check
from ...quant.faults.layer import Events
from ...quant.faults.machine import Layers
from ...quant.faults.records import Tensor, TensorFaults
from ...quant.faults.words import changed_in_order
from ...quant.ir import Conv2d, Dense, Graph, IntArray, Node
from ..outcomes import Outcome, top1

__all__ = ["Prediction", "SoftwareEngine", "predict"]

BATCH_ELEMENTS = 1 << 19  # of the largest tensor that one batch of experiments holds

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Prediction:
    """What n experiments give: `outcome` [n] of `Outcome` (masked, tolerable or critical), and the
    output `words` [n, *shape], those of the fault-free run where nothing changed."""

    outcome: Bytes
    words: IntArray


def predict(
    graph: Graph,
    inputs: IntArray,
    faults: TensorFaults,
    device: str | None = None,
    acc_bits: Mapping[str, int] | None = None,
) -> Prediction:
    """Run every experiment of `faults` on its frame of `inputs` [k, *input_shape].

    `device` None is NumPy, else a torch device. `acc_bits` by layer is the width of accumulators
    where it is not the proven one. Raises InputError for faults that strike no word of the graph.
    """
    return SoftwareEngine(graph, inputs, device, acc_bits).run(faults)


class SoftwareEngine:
    """A graph with the golden tensors of its inputs, ready for many runs; as `predict`."""

    def __init__(
        self,
        graph: Graph,
        inputs: IntArray,
        device: str | None = None,
        acc_bits: Mapping[str, int] | None = None,
    ) -> None:
        if not len(inputs):
            raise InputError("software engine: needs at least one input")
        self.graph, self.inputs = graph, len(inputs)
        self.layers = Layers(graph, device, acc_bits)
        self.machine = self.layers.machine
        self.golden = self.layers.execute(inputs)
        self.words = self.machine.host(self.golden[graph.output])
        self.order = [graph.input_name, *(node.name for node in graph)]
        self._acc: dict[str, Any] = {}
        self._readers = {
            name: max((self.order.index(n.name) for n in graph.consumers(name)), default=0)
            for name in self.order
        }
        self._readers[graph.output] = len(self.order)

    def accumulator(self, node: Conv2d | Dense) -> Any:
        """The golden accumulator of a layer, kept once it was needed."""
        if node.name not in self._acc:
            operands = [self.golden[name] for name in node.inputs]
            self._acc[node.name] = self.machine.accumulate(node, operands)
        return self._acc[node.name]

    def run(self, faults: TensorFaults, progress: Progress | None = None) -> Prediction:
        """As `predict`; `progress` is called with the number of experiments finished."""
        check(self.graph, self.layers, faults, self.inputs)
        words = self.words[faults.frame]
        order = {name: i for i, name in enumerate(self.order)}
        place = np.array([order[name] for name in faults.layers])[faults.layer]
        bounds = np.searchsorted(faults.experiment, np.arange(len(faults) + 1))
        hit = np.flatnonzero(np.diff(bounds))  # a law may draw no fault for an experiment
        first, last = np.full((2, len(faults)), -1)
        first[hit] = np.minimum.reduceat(place, bounds[hit])
        last[hit] = np.maximum.reduceat(place, bounds[hit])
        for start in np.unique(first[hit]):
            experiments = np.flatnonzero(first == start)
            step = self._batch(int(start))
            for i in range(0, len(experiments), step):
                rows = experiments[i : i + step]
                batch = _Batch(self, faults, place, bounds, last, rows)
                changed_rows, found = batch.run(int(start))
                words[changed_rows] = found
                if progress is not None:
                    progress(len(rows))
        return Prediction(self._classes(words, faults.frame), words)

    def _batch(self, start: int) -> int:
        largest = max(self.layers.elements(name) for name in self.order[start:])
        return max(1, BATCH_ELEMENTS // largest)

    def _classes(self, words: IntArray, frame: IntArray) -> Bytes:
        expected = self.words[frame]
        wrong = (words != expected).reshape(len(words), -1).any(axis=1)
        outcome = np.where(wrong, Outcome.SDC_TOLERABLE, Outcome.MASKED).astype(np.uint8)
        outcome[top1(words) != top1(expected)] = Outcome.SDC_CRITICAL
        return outcome


class _Batch:
    """Some experiments on their way through the graph. `rows` are those still under way; `live`
    holds, for them, the tensors that may differ from the golden ones."""

    def __init__(
        self,
        engine: SoftwareEngine,
        faults: TensorFaults,
        place: IntArray,
        bounds: IntArray,
        last: IntArray,
        rows: IntArray,
    ) -> None:
        self.engine, self.faults, self.place, self.last = engine, faults, place, last
        self.rows, self.frame = rows, faults.frame[rows]
        self.live: dict[str, Any] = {}
        counts = bounds[rows + 1] - bounds[rows]
        shift = np.repeat(bounds[rows] - np.concatenate(([0], np.cumsum(counts)[:-1])), counts)
        self.records = np.arange(counts.sum()) + shift

    def run(self, start: int) -> tuple[IntArray, IntArray]:
        """The experiments whose output may differ, and their output."""
        engine = self.engine
        for number in range(start, len(engine.order)):
            name = engine.order[number]
            events = self._events(number)
            node = engine.graph.node(name) if number else None
            if node is None:
                self._input(name, events)
            elif len(events.at) or any(source in self.live for source in node.inputs):
                self._node(node, number, events)
            else:
                continue
            if not len(self.rows):
                break
        output = self.live.get(engine.graph.output)
        if output is None:
            return self.rows[:0], engine.words[:0]
        return self.rows, engine.machine.host(output)

    def _events(self, number: int) -> Events:
        """The records of node `number`, as events of the rows still under way."""
        mine = self.records[self.place[self.records] == number]
        faults, at = self.faults, np.searchsorted(self.rows, self.faults.experiment[mine])
        columns = ("tensor", "index", "step", "span", "width", "op", "value")
        return Events(at, *(getattr(faults, name)[mine] for name in columns))

    def _input(self, name: str, events: Events) -> None:
        golden = self._golden(name)
        self.live[name] = self._changed(golden, events, name)

    def _golden(self, name: str) -> Any:
        return self.engine.golden[name][self.engine.machine.array(self.frame)]

    def _node(self, node: Node, number: int, events: Events) -> None:
        inner = (events.tensor != Tensor.INPUT) & (events.tensor != Tensor.ACTIVATION)
        own = events.tensor == Tensor.INPUT
        if own.any() or any(source in self.live for source in node.inputs):
            self._dense(node, events, own, inner)
            if (events.tensor == Tensor.ACTIVATION).any():
                some = events.take(events.tensor == Tensor.ACTIVATION)
                self.live[node.name] = self._changed(self.live[node.name], some, node.name)
            self._leave(number)
        else:
            self._sparse(node, number, events, inner)

    def _dense(self, node: Node, events: Events, own: Any, inner: Any) -> None:
        """The whole layer, for every row."""
        engine = self.engine
        operands = [
            self.live[name] if name in self.live else self._golden(name) for name in node.inputs
        ]
        if own.any():
            source = node.inputs[0]
            operands[0] = self._changed(operands[0], events.take(own), source)
        if not inner.any():
            self.live[node.name] = engine.layers.evaluate(node, operands)
            return
        assert isinstance(node, Conv2d | Dense)
        acc = engine.machine.accumulate(node, operands)
        words = engine.layers.words[node.name]
        at, element, value = words.results(operands[0], acc, events.take(inner))
        found = engine.layers.evaluate(node, operands, acc)
        _put(engine, found, at, element, value)
        self.live[node.name] = found

    def _sparse(self, node: Node, number: int, events: Events, inner: Any) -> None:
        """Operands are golden: only what the faults touch, for the rows where it shows."""
        engine = self.engine
        hit = np.zeros(len(self.rows), bool)
        rest = events.take(events.tensor == Tensor.ACTIVATION)
        hit[rest.at] = True
        at = element = np.zeros(0, np.int64)
        value: Any = None
        if inner.any():
            assert isinstance(node, Conv2d | Dense)
            some = events.take(inner)
            at, element, value = self._touched(node, some)
            frames = engine.machine.array(self.frame[at])
            flat = engine.golden[node.name].reshape(engine.inputs, -1)
            wrong = engine.machine.host(flat[frames, engine.machine.array(element)] != value)
            hit[at[wrong]] = True
        stays = hit | (self.last[self.rows] > number)
        if self.live:
            stays[:] = True
        seat = np.cumsum(stays) - 1
        self._keep(stays)
        if not len(self.rows):
            return
        found = self._golden(node.name)
        if len(at):
            keep = np.flatnonzero(stays[at])
            chosen = value[engine.machine.array(keep)]
            _put(engine, found, seat[at[keep]], element[keep], chosen)
        if len(rest.at):
            moved = Events(seat[rest.at], *list(vars(rest).values())[1:])
            found = self._changed(found, moved, node.name)
        self.live[node.name] = found
        if not hit.all():
            self._leave(number)

    def _touched(self, node: Conv2d | Dense, events: Events) -> tuple[IntArray, IntArray, Any]:
        """Results of faults over golden operands."""
        engine = self.engine
        words = engine.layers.words[node.name]
        return words.results(
            engine.golden[node.inputs[0]], engine.accumulator(node), events, self.frame
        )

    def _changed(self, values: Any, events: Events, name: str) -> Any:
        """A copy of a tensor of all rows with elements changed, in the order of the list."""
        engine = self.engine
        kind, flat = engine.layers.types[name], (values + 0).reshape(len(self.rows), -1)
        width = np.full(len(events.at), kind.bits)
        columns = (events.at, events.index, events.op, events.value, width)
        changed_in_order(engine.machine.xp, engine.machine.array, flat, columns, kind)
        return flat.reshape(values.shape)

    def _leave(self, number: int) -> None:
        """Drop the rows in which everything still to be read is golden and no fault is to come."""
        engine = self.engine
        keep = self.last[self.rows] > number
        self.live = {n: v for n, v in self.live.items() if engine._readers[n] > number}
        for name, value in self.live.items():
            differs = value != self._golden(name)
            keep |= engine.machine.host(differs.reshape(len(self.rows), -1).any(1))
        if not keep.all():
            self._keep(keep)

    def _keep(self, keep: Any) -> None:
        self.rows, self.frame = self.rows[keep], self.frame[keep]
        kept = self.engine.machine.array(np.flatnonzero(keep))
        self.live = {name: value[kept] for name, value in self.live.items()}
        self.records = self.records[np.isin(self.faults.experiment[self.records], self.rows)]


def _put(engine: SoftwareEngine, found: Any, at: IntArray, element: IntArray, value: Any) -> None:
    flat = found.reshape(math.prod(found.shape[:1]), -1)
    flat[engine.machine.array(at), engine.machine.array(element)] = value
