"""A QONNX model, as Brevitas and QKeras export it, becomes an integer graph.

Each quantiser is an exact step function of real numbers; what stands between an accumulator and the
quantiser behind it is gathered in exact rational arithmetic and then brought to integers once
(`qonnx_lowering`). The operators are those of Pappalardo et al., "QONNX: Representing
Arbitrary-Precision Quantized Neural Networks" (2022).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, ClassVar

from .. import ir, shapes
from ..errors import InputError
from ..names import printable, sanitize
from ..types import TensorType
from .onnx_file import OnnxGraph, OnnxNode
from .onnx_finish import finish_graph
from .onnx_layout import fail
from .onnx_operators import QONNX
from .onnx_quantised import Imported
from .onnx_walk import Handler, Walker
from .qonnx_fit import real
from .qonnx_lowering import Lowering
from .qonnx_operators import OPERATORS, fractions
from .qonnx_pools import POOLS
from .qonnx_quantisers import activation, constant, multi_threshold, trunc
from .qonnx_steps import Line, Quantiser, Steps, Uniform
from .qonnx_values import (
    Content,
    Joined,
    Pending,
    QuantConstant,
    Quantised,
    Real,
    Same,
    Sum,
    Tensor,
)

__all__ = ["convert", "import_qonnx"]


def import_qonnx(graph: OnnxGraph) -> ir.Graph:
    """The integer graph of a QONNX model; raises InputError naming the node and the fix."""
    return convert(graph).graph


def convert(graph: OnnxGraph) -> Imported:
    """The integer graph with notes, and how near each layer comes to exact real arithmetic."""
    walker = QonnxWalker(graph)
    walker.walk()
    made = walker.finished()
    names = {node.name for node in made}
    exactness = tuple(item for item in walker.lowering.report if item.layer in names)
    return Imported(made, tuple(walker.notes), exactness, {})


class QonnxWalker(Walker):
    """Visits the nodes; `weights` are quantised constants, the rest is in `Tensor.content`."""

    handlers: ClassVar[Mapping[tuple[str, str], Callable[[Any, OnnxNode], Any]]] = {}

    def __init__(self, graph: OnnxGraph) -> None:
        super().__init__(graph)
        self.lowering = Lowering()
        self.lowering.taken.add(sanitize(graph.input_name, set()))
        self.weights: dict[str, QuantConstant] = {}
        self.settled: dict[Content, Quantised] = {}
        self.paths: dict[str, str] = {}
        self.input_kind: TensorType | None = None
        shape, last = self.source()
        content: Content = Real(Line(Fraction(1)))
        if graph.input_dtype.kind in "iu":
            self.input_kind = TensorType(8, graph.input_dtype.kind == "i", scale=1.0)
            kind = self.input_kind
            content = Quantised(graph.input_name, kind, Fraction(1), kind.lo, kind.hi)
        flat = len(shape) == 1
        self.values[graph.input_name] = Tensor(
            graph.input_name, shape, last=last, flat=flat, content=content
        )

    @property
    def parts(self) -> dict[str, ir.Node]:
        """The nodes made, by name."""
        return {node.name: node for node in self.lowering.nodes}

    def finished(self) -> ir.Graph:
        """The checked graph of the network's output."""
        name = self.graph.output_name
        if name not in self.values:
            raise InputError(f"output {printable(name)} is a constant; export the model again")
        maker = next(node for node in self.graph.nodes if name in node.outputs)
        output = self.output(maker, self.values[name])
        if self.input_kind is None:
            fail(maker, "the input has no quantiser; put a Quant (QuantIdentity) behind it")
        if output == self.graph.input_name:
            fail(maker, "the network only quantises its input; nothing is left to build")
        graph, _ = finish_graph(self, output)
        shapes.infer(graph)
        return graph

    def exact(self, node: OnnxNode, index: int, what: str) -> list[Fraction]:
        """A constant operand, quantised or not, as exact numbers."""
        weight = self.weights.get(node.inputs[index])
        if weight is None:
            return fractions(self.reals(node, index, what))
        scales = fractions(weight.scale)
        return [q * s for q, s in zip(weight.integers.reshape(-1).tolist(), scales, strict=True)]

    def constant_array(self, node: OnnxNode, index: int) -> Any:
        """A constant operand as an array, for its shape."""
        weight = self.weights.get(node.inputs[index])
        return self.constant(node, index, "constant") if weight is None else weight.integers

    def pending_of(
        self, content: Quantised | Pending, channels: int, image: tuple[int, int] | None
    ) -> Pending:
        """A content as an accumulator; a quantised one is its own."""
        if isinstance(content, Pending):
            return content
        name = f"{content.name}_quant"
        source = Same(name=name, path=name, x=content, channels=channels, image=image)
        return Pending(source, (Line(content.scale),), channels)

    def pending(self, node: OnnxNode, value: Tensor) -> Pending:
        """The accumulator of a value; InputError for the unquantised input and joined tensors."""
        if not isinstance(value.content, Quantised | Pending):
            fail(node, "its operand must be quantised; put a Quant (QuantIdentity) in front")
        image = None if value.flat else (value.image[1], value.image[2])
        found = self.pending_of(value.content, value.channels, image)
        if found is not value.content:
            source = dataclasses.replace(found.source, name=node.name, path=node.name)
            found = dataclasses.replace(found, source=source)
        return found

    def later(
        self, node: OnnxNode, value: Tensor, change: Callable[[Quantised], Quantised]
    ) -> Tensor:
        """A value behind an operator on integers; a pending one waits for its quantiser."""
        if isinstance(value.content, Pending):
            steps = (*value.content.later, change)
            return value.holding(dataclasses.replace(value.content, later=steps))
        return value.holding(change(self.quantised(node, value)))

    def flatten(self, node: OnnxNode, value: Tensor) -> Tensor:
        """An image stored as a vector."""

        def change(x: Quantised) -> Quantised:
            name = self.lowering.name(node.name)
            self.lowering.add(ir.Flatten(name=name, inputs=(x.name,)))
            return dataclasses.replace(x, name=name)

        return self.later(node, value, change)

    def quantised(self, node: OnnxNode, value: Tensor) -> Quantised:
        """The integers of a value; what is exact without a quantiser is made here."""
        content = value.content
        if isinstance(content, Quantised):
            return content
        if content is None or isinstance(content, Real):
            fail(node, "reads the input before it is quantised; put a Quant (QuantIdentity) first")
        if content not in self.settled:
            self.settled[content] = self._settle(node, value, content)
        return self.settled[content]

    def _settle(self, node: OnnxNode, value: Tensor, content: Content) -> Quantised:
        if isinstance(content, Pending) and isinstance(content.source, Same | Sum):
            rule = self.lowering.natural(content)
            if rule is not None:
                return self.lowering.finish(content, rule)
        if isinstance(content, Joined):
            kinds = {(p.scale, p.kind) for p in content.parts if isinstance(p, Quantised)}
            if len(kinds) == 1 and all(isinstance(p, Quantised) for p in content.parts):
                ((scale, kind),) = kinds
                return self.join(content, Uniform(kind, scale, kind.lo, kind.hi, "ROUND"))
        fail(
            node,
            "reads a tensor that is not quantised; put a Quant (QuantIdentity, output_quant) "
            "in front of it",
        )

    def quantise(self, node: OnnxNode, value: Tensor, rule: Quantiser) -> Tensor:
        """A value behind a quantiser."""
        content = value.content
        if isinstance(content, Real):
            x = self._input(node, content.line, rule)
            if (rule.lo, rule.hi) == (x.lo, x.hi):
                return value.holding(x)
            pending = self.pending(node, value.holding(x))  # a narrow range: frames have all of it
            return value.holding(self.lowering.finish(pending, rule))
        if isinstance(content, Joined):
            return value.holding(self.join(content, rule))
        return value.holding(self.lowering.finish(self.pending(node, value), rule))

    def join(self, joined: Joined, rule: Quantiser) -> Quantised:
        """A Concat; the quantiser goes to every part."""
        pieces = [
            self.pending_of(part, width, joined.image)
            for part, width in zip(joined.parts, joined.widths, strict=True)
        ]
        return self.lowering.join(joined.name, pieces, rule)

    def _input(self, node: OnnxNode, line: Line, rule: Quantiser) -> Quantised:
        """The network's input: its type is that of the quantiser, frames are quantised by it."""
        if isinstance(rule, Steps):
            plain = rule.kind.bipolar and not line.offset and not any(rule.row(0))
        else:
            plain = rule.mode in ("ROUND", "HALF_EVEN") and not line.offset
        if not plain:
            fail(
                node,
                "quantises the input in a way that frames cannot be quantised by: use a Quant "
                "with rounding_mode ROUND and no offset in front of it",
            )
        kind = dataclasses.replace(rule.kind, scale=real(rule.scale / line.gain))
        if self.input_kind not in (None, kind):
            fail(node, "quantises the input in a second way; use one QuantIdentity for all")
        self.input_kind = kind
        return Quantised(self.graph.input_name, kind, rule.scale, kind.lo, kind.hi)

    def output(self, node: OnnxNode, value: Tensor) -> str:
        """The name of a value's integers, or of raw accumulators where no quantiser follows."""
        content = value.content
        if isinstance(content, Pending) and not isinstance(content.source, Sum):
            raw = self.lowering.raw(content)
            if raw is not None:
                return raw
        return self.quantised(node, value).name


def _quant(walker: QonnxWalker, node: OnnxNode) -> Tensor | None:
    name = node.inputs[0]
    if name in walker.weights:
        weight = walker.weights[name]
        walker.constants[name] = weight.integers * weight.scale
    if name in walker.constants:
        walker.weights[node.outputs[0]] = constant(walker, node)
        return None
    value = walker.operand(node)
    return walker.quantise(node, value, activation(walker, node))


def _multi_threshold(walker: QonnxWalker, node: OnnxNode) -> Tensor:
    value = walker.operand(node)
    return walker.quantise(node, value, multi_threshold(walker, node, value))


def _trunc(walker: QonnxWalker, node: OnnxNode) -> Tensor:
    value: Tensor = walker.operand(node)
    pending, rule = trunc(walker, node, walker.pending(node, value))
    return value.holding(walker.lowering.finish(pending, rule))


_RULES: dict[str, Handler] = {
    "BipolarQuant": _quant,
    "IntQuant": _quant,
    "MultiThreshold": _multi_threshold,
    "Quant": _quant,
    "Trunc": _trunc,
}
QonnxWalker.handlers = {
    **{("", op): handler for op, handler in {**OPERATORS, **POOLS}.items()},
    **{(domain, op): handler for domain in QONNX for op, handler in _RULES.items()},
}
