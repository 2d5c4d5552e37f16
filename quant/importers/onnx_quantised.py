"""The walk over a quantised ONNX graph (QDQ and QOperator): values, their types, layers made.

A value is a tensor of the integer graph, seen by ONNX as integers or, behind a DequantizeLinear, as
real numbers; or it is `pending`, a layer whose result no QuantizeLinear has given a type yet.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import ir
from ..errors import InputError
from ..float_graph import FloatArray
from ..names import printable
from .exactness import Exactness
from .onnx_exactness import statements
from .onnx_file import OnnxGraph, OnnxNode
from .onnx_finish import finish_graph
from .onnx_layout import Window, fail
from .onnx_pending import Join, Linear, Mean, Pending, Source, scale_of
from .onnx_walk import Value, Walker

__all__ = ["Imported", "QuantisedWalker", "Seen", "Trace", "Weight"]

Step = Callable[[str], str]
ONE = Window((1, 1), (1, 1), (0, 0, 0, 0), (1, 1), (0, 0), (1, 1))
SCALING = 64  # weight of a layer that only scales: its offset has a 64th of a step's resolution


@dataclass(frozen=True, eq=False)
class Seen(Value):
    """A value of a quantised network.

    `kind` is its type, None while `pending`; `real` tells whether ONNX sees real numbers. `steps`
    follow the pending layer: each makes a node that reads the name given and returns its own.
    `final`: only the output may follow (a softmax was dropped, or it is an index). `padded`: a
    step puts zeros around it.
    """

    kind: ir.TensorType | None = None
    real: bool = True
    pending: Pending | None = None
    steps: tuple[Step, ...] = ()
    final: bool = False
    padded: bool = False


@dataclass(frozen=True, eq=False)
class Weight:
    """A quantised constant: real = (q - zero_point) * scale; both of size 1 or along `axis`."""

    q: ir.IntArray
    scale: FloatArray
    zero_point: ir.IntArray
    axis: int
    bits: int

    def along(self, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Scales or zero points in a shape that broadcasts over q."""
        if values.size == 1:
            return values.reshape(())
        return values.reshape([-1 if i == self.axis else 1 for i in range(self.q.ndim)])

    @property
    def real(self) -> FloatArray:
        """The real numbers."""
        result: FloatArray = (self.q - self.along(self.zero_point)) * self.along(self.scale)
        return result


@dataclass(frozen=True, eq=False)
class Trace:
    """The ONNX tensor of integers (real numbers if `raw`) that a layer's result equals."""

    tensor: str
    last: bool
    order: ir.IntArray | None
    raw: bool = False

    def arrange(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """ONNX's array [n, ...] in the layout of the integer graph."""
        if self.order is not None:
            return array.reshape(len(array), -1)[:, self.order]
        return array.transpose(0, 2, 3, 1) if array.ndim == 4 and not self.last else array


@dataclass(frozen=True, eq=False)
class Imported:
    """An integer graph with notes, one statement a layer, and the layers' tensors in the file."""

    graph: ir.Graph
    notes: tuple[str, ...]
    exactness: tuple[Exactness, ...]
    traces: dict[str, Trace]


class QuantisedWalker(Walker):
    """Makes integer nodes; `parts` are those made so far, `paths` what messages call them."""

    def __init__(self, graph: OnnxGraph) -> None:
        super().__init__(graph)
        self.parts: dict[str, ir.Node] = {}
        self.paths: dict[str, str] = {}
        self.weights: dict[str, Weight] = {}
        self.made: dict[tuple[Pending, ir.TensorType | None, tuple[Step, ...]], str] = {}
        self.producers: dict[str, tuple[Pending, ir.TensorType]] = {}
        self.input_kind: ir.TensorType | None = None
        self.traces: dict[str, Trace] = {}
        shape, last = self.source()
        real = graph.input_dtype.kind == "f"
        source = Source(path=graph.input_name)
        self.values[graph.input_name] = Seen("", shape, last, real=real, pending=source)

    def result(self) -> Imported:
        """What was made, after `walk`."""
        value = self.values.get(self.graph.output_name)
        if value is None:
            value = self.constant_output()
        output = self.raw(value) if value.pending is not None else value.name
        if value.order is not None:
            self.notes.append(
                "the output is a flattened image: its elements come in the order (rows, columns, "
                "channels), not ONNX's"
            )
        graph, names = finish_graph(self, output)
        layers = {names[key]: made for key, made in self.producers.items() if key in names}
        traces = {names[key]: trace for key, trace in self.traces.items() if key in names}
        return Imported(graph, tuple(self.notes), statements(graph, layers), traces)

    def keep(self, tensor: str, value: Seen) -> None:
        """Remember which integers of the model a layer's result has to equal."""
        if value.name in self.parts and not value.real and not value.final:
            trace = Trace(tensor, value.last, value.order)
            self.traces.setdefault(value.name, trace)

    def constant_output(self) -> Seen:
        """Refuse an output that no layer makes."""
        node = next(n for n in self.graph.nodes if self.graph.output_name in n.outputs)
        return fail(node, "the network's output does not depend on its input")

    def emit(self, path: str, make: Callable[[str], ir.Node]) -> str:
        """Add a node; its name is a number until the graph is finished."""
        name = f"{len(self.parts)}.tensor"
        try:
            self.parts[name] = make(name)
        except (ValueError, TypeError) as error:
            what = str(error).removeprefix(f"{name}: ")
            raise InputError(f"layer {printable(path)}: {what}") from error
        self.paths[name] = path
        return name

    def settle(self, value: Seen, kind: ir.TensorType) -> Seen:
        """A pending value as a tensor of type `kind`, seen as integers."""
        pending = value.pending
        assert pending is not None
        if pending.before is not None and pending.before[1] == kind:
            pending = pending.before[0].clamp(pending.lo, pending.hi)
        key = (pending, kind, value.steps)
        if key not in self.made:
            name = self._first(pending, kind)
            for step in value.steps:
                name = step(name)
            self.made[key] = name
        name = self.made[key]
        return dataclasses.replace(value, name=name, kind=kind, real=False, pending=None, steps=())

    def _first(self, pending: Pending, kind: ir.TensorType) -> str:
        if isinstance(pending, Source):
            self._set_input(kind)
            if not pending.clamped:
                return self.graph.input_name
            pending = self._clamped_input(pending, kind)
        name = self.emit(pending.path, lambda name: pending.finish(name, kind))
        self.producers[name] = (pending, kind)
        return name

    def _clamped_input(self, pending: Pending, kind: ir.TensorType) -> Pending:
        """A layer that only clamps the input."""
        fields: dict[str, Any] = {"inputs": (self.graph.input_name,), "kinds": (kind,)}
        fields |= {"path": f"{pending.path}.clamp", "lo": pending.lo, "hi": pending.hi}
        if len(self.graph.input_shape) == 2:
            return Join(**fields)
        return Mean(**fields, window=ONE, include=False)

    def _set_input(self, kind: ir.TensorType) -> None:
        dtype = self.graph.input_dtype
        shown = f"input {printable(self.graph.input_name)}"
        if dtype.kind in "iu" and kind.signed != (dtype.kind == "i"):
            raise InputError(f"{shown}: is {dtype} but its zero point is not; export it again")
        if self.input_kind not in (None, kind):
            raise InputError(
                f"{shown}: is quantised in two ways; give all its readers one QuantizeLinear"
            )
        self.input_kind = kind

    def raw(self, value: Seen) -> str:
        """The name of a pending value's accumulators."""
        pending = value.pending
        assert pending is not None
        if isinstance(pending, Linear) and not pending.clamped:
            if not pending.even:
                self.notes.append(
                    f"layer {printable(pending.path)}: its result is not quantised and its "
                    "channels have several scales; its weights were rounded again to one scale"
                )
            name = self.emit(pending.path, lambda name: pending.finish(name, None))
        else:
            name = Pending(path=pending.path).finish("", None).name
        for step in value.steps:
            name = step(name)
        return name

    def flatten(self, node: OnnxNode, value: Seen) -> Seen:
        """Store an image as a vector, at once or after the pending layer."""

        def step(source: str) -> str:
            return self.emit(node.name, lambda name: ir.Flatten(name=name, inputs=(source,)))

        return self.follow(value, step)

    def follow(self, value: Seen, step: Step) -> Seen:
        """A node behind `value` that keeps its type, at once or after the pending layer."""
        if value.pending is not None:
            return dataclasses.replace(value, steps=(*value.steps, step))
        return dataclasses.replace(value, name=step(value.name))

    def real(self, node: OnnxNode, index: int = 0) -> Seen:
        """An operand that ONNX sees as real numbers."""
        value: Seen = self.operand(node, index)
        if value.final:
            fail(node, "stands behind a Softmax or ArgMax, which must be the last layer")
        if not value.real:
            fail(node, "works on integers here; put a DequantizeLinear before it")
        return value

    def stored(self, node: OnnxNode, index: int = 0) -> Seen:
        """An operand that ONNX sees as real numbers and that has an integer type."""
        value = self.real(node, index)
        if value.pending is not None:
            name = printable(node.inputs[index])
            fail(
                node,
                f"its operand {name} is not quantised (missing scales); put a QuantizeLinear and "
                "a DequantizeLinear between",
            )
        return value

    def integer(self, node: OnnxNode, index: int, kind: ir.TensorType) -> Seen:
        """An operand that ONNX sees as integers, of type `kind`."""
        value: Seen = self.operand(node, index)
        if value.final or value.real:
            fail(node, f"operand {index + 1} must hold integers; put a QuantizeLinear before it")
        if value.pending is not None:
            return self.settle(value, kind)
        if value.kind != kind:
            fail(
                node,
                f"reads {printable(node.inputs[index])} with another scale or zero point than it "
                "was written with; they must be equal",
            )
        return value

    def pend(self, value: Seen, pending: Pending, shape: tuple[int, ...], **changes: Any) -> Seen:
        """The result of a pending layer that read `value`."""
        fresh = {"name": "", "kind": None, "real": True, "steps": (), "alone": True}
        fresh["padded"] = False
        return dataclasses.replace(value, pending=pending, shape=shape, **{**fresh, **changes})

    def rescaled(self, node: OnnxNode, value: Seen) -> Seen:
        """A layer that only brings a tensor to another type, or clamps it."""
        assert value.kind is not None
        before = self.producers.get(value.name) if value.alone else None
        common: dict[str, Any] = {
            "path": node.name,
            "inputs": (value.name,),
            "kinds": (value.kind,),
            "before": before,
        }
        layer = Join(**common) if value.flat or len(value.shape) == 1 else None
        pending = layer or Mean(**common, window=ONE, include=False)
        return self.pend(value, pending, value.shape, alone=value.alone)

    def affine(self, node: OnnxNode, value: Seen, gain: FloatArray, offset: FloatArray) -> Seen:
        """value * gain + offset per channel: in the layer that makes `value`, else in its own."""
        pending, steps, note = value.pending, value.steps, ""
        if pending is None and value.alone and value.name in self.producers:
            pending = self.producers[value.name][0]
            note = f"{node.op} taken up before the rounding, where the model rounds twice"
        if isinstance(pending, Linear) and not pending.clamped and not steps:
            merged = dataclasses.replace(pending.scaled(gain, offset), note=note or pending.note)
            return self.pend(value, merged, value.shape, alone=value.alone)
        if value.pending is None and len(value.shape) == 3 and not value.flat:
            return self.pend(value, self._scaling(node, value, gain, offset), value.shape)
        return fail(
            node,
            "a scaling or an addition of constants must stand behind a Conv, Gemm or MatMul, or "
            "between a DequantizeLinear and a QuantizeLinear of an image; fold it before "
            "quantising (onnxruntime's quant_pre_process does)",
        )

    def _scaling(self, node: OnnxNode, value: Seen, gain: FloatArray, offset: FloatArray) -> Linear:
        """A depthwise 1x1 convolution whose multipliers, one a channel, are the factors."""
        assert value.kind is not None
        factor = np.where(gain < 0, -SCALING, SCALING).astype(np.int64)
        steps = np.where(gain == 0, 1.0, np.abs(gain)) * scale_of(value.kind) / SCALING
        return Linear(
            path=node.name,
            inputs=(value.name,),
            kinds=(value.kind,),
            note=f"the offset was rounded to 1/{SCALING} of an input step",
            weight=np.where(gain == 0, 0, factor).reshape(-1, 1, 1, 1),
            weight_bits=8,
            steps=steps,
            bias=offset / steps,
            window=ONE,
            groups=value.channels,
        )
