"""Integer nodes from pending accumulators and the quantisers behind them.

Results of 1..4 bits and bipolar ones get thresholds, which are exact whatever stands between the
accumulator and the quantiser. Others get a 24-bit multiplier and a bias on the accumulator's grid;
every accumulator value in the proven range is compared with exact arithmetic, and the share that
differs is what `Exactness` reports.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from .. import ir
from ..errors import InputError
from ..names import printable, sanitize
from ..types import MAX_ACT_BITS, IntArray, TensorType
from .exactness import Exactness
from .qonnx_add import add_node, exact_sum
from .qonnx_fit import (
    POINT,
    THRESHOLD_BITS,
    as_linear,
    convertible,
    fitted,
    ideal_bias,
    oriented,
    raw_bias,
    settled,
    table_of,
    unchanged,
)
from .qonnx_steps import (
    Difference,
    Line,
    Quantiser,
    Steps,
    Uniform,
    compare,
    integer_steps,
    limits,
    requantize_steps,
)
from .qonnx_values import Linear, Mean, Pending, Quantised, Same, Sum

__all__ = ["Lowering"]

BIAS_LIMIT = 1 << 39


class Lowering:
    """The integer nodes made so far, and how exact each is."""

    def __init__(self) -> None:
        self.nodes: list[ir.Node] = []
        self.taken: set[str] = set()
        self.report: list[Exactness] = []
        self.differences: dict[str, Difference] = {}  # of operands that a Concat rescales

    def name(self, path: str) -> str:
        """A free identifier made from a node's path."""
        found = sanitize(path.strip("/").removeprefix("node_"), self.taken)
        self.taken.add(found)
        return found

    def add(self, node: ir.Node) -> str:
        """Append a node; returns its name."""
        self.nodes.append(node)
        return node.name

    def finish(self, pending: Pending, quantiser: Quantiser) -> Quantised:
        """The integers behind the quantiser, and what was put off behind it."""
        found = self._made(pending, quantiser)
        for change in pending.later:
            found = change(found)
        return found

    def _made(self, pending: Pending, quantiser: Quantiser) -> Quantised:
        source = pending.source
        if isinstance(source, Sum):
            return self._added(pending, source, quantiser)
        if isinstance(source, Same) and unchanged(source.x, pending.lines, quantiser):
            return source.x
        if isinstance(source, Mean | Same):
            made = self._rescaled(pending, source, quantiser)
            if made is not None:
                return made
        linear = as_linear(source)
        if quantiser.kind.bipolar or quantiser.kind.bits <= THRESHOLD_BITS:
            linear, lines = oriented(linear, pending.stretched(), thresholds=True)
            return self._thresholds(linear, lines, quantiser)
        lines = settled(linear, pending.stretched(), quantiser)
        return self._requantised(*oriented(linear, lines), quantiser)

    def _added(self, pending: Pending, source: Sum, quantiser: Quantiser) -> Quantised:
        node, difference = add_node(self.name(source.name), source, pending.lines[0], quantiser)
        form = "rescaled" if difference.largest else "integer"
        self.report.append(Exactness(node.name, form, difference.share, difference.largest))
        return result(self.add(node), quantiser, pending.lines)

    def _thresholds(self, linear: Linear, lines: Sequence[Line], quantiser: Quantiser) -> Quantised:
        steps = integer_steps(quantiser, lines, *linear.interval())
        if (steps == steps[:1]).all():
            steps = steps[:1]
        table = ir.Thresholds(steps, quantiser.kind)
        bias = np.zeros(len(linear.weight), dtype=np.int64)
        name = self.linear(linear, bias, table)
        self.report.append(Exactness(name, "thresholds"))
        return result(name, quantiser, lines)

    def _requantised(
        self, linear: Linear, lines: Sequence[Line], quantiser: Quantiser
    ) -> Quantised:
        """A multiplier, a shift and a bias."""
        found = fitted(linear, lines, quantiser)
        name = self.linear(found.linear, found.bias, found.table)
        difference = found.difference
        form = "rescaled" if difference.largest else "integer"
        self.report.append(Exactness(name, form, difference.share, difference.largest, found.note))
        return result(name, quantiser, lines)

    def _rescaled(
        self, pending: Pending, source: Mean | Same, quantiser: Quantiser
    ) -> Quantised | None:
        """An average pool or a Concat of one; None where a layer with weights does better."""
        line = pending.lines[0]
        if any(other != line for other in pending.lines) or line.gain <= 0:
            return None
        found = self._table(source, line, quantiser)
        if found is None:
            return None
        table, difference = found
        name = self._pool(source, table)
        note = ""
        if isinstance(source, Mean) and any(source.window.padding) and not source.include:
            note = "windows at the border are rounded with their own multiplier"
        form = "rescaled" if difference.largest else "integer"
        self.report.append(Exactness(name, form, difference.share, difference.largest, note))
        return result(name, quantiser, [line])

    def _table(
        self, source: Mean | Same, line: Line, quantiser: Quantiser
    ) -> tuple[ir.Requantize, Difference] | None:
        """A multiplier without a bias; None where thresholds or a bias do better."""
        if quantiser.kind.bipolar or ideal_bias(line, quantiser, 0) != 0:
            return None
        table = table_of([line], quantiser, source.path)
        count = source.count if isinstance(source, Mean) else 1
        zero = source.x.kind.zero_point
        lo, hi = (np.array([(end - zero) * count]) for end in (source.x.lo, source.x.hi))
        wanted = integer_steps(quantiser, [line], lo, hi)
        made = requantize_steps(table, np.zeros(1, dtype=np.int64), lo, hi)
        difference = compare(wanted, made, lo, hi)
        few = quantiser.kind.bits <= THRESHOLD_BITS and convertible(source)
        return None if difference.largest and few else (table, difference)

    def _pool(self, source: Mean | Same, table: ir.Requantize) -> str:
        name, inputs = self.name(source.name), (source.x.name,)
        if isinstance(source, Same) and source.image is None:
            return self.add(ir.Concat(name=name, inputs=inputs, requantize=(table,), out=table.out))
        if isinstance(source, Mean) and source.whole:
            return self.add(ir.GlobalAvgPool(name=name, inputs=inputs, requantize=table))
        window = source.window if isinstance(source, Mean) else POINT
        return self.add(
            ir.AvgPool(
                name=name,
                inputs=inputs,
                requantize=table,
                kernel=window.kernel,
                stride=window.stride,
                padding=window.padding,
                count_include_pad=source.include if isinstance(source, Mean) else True,
            )
        )

    def natural(self, pending: Pending) -> Quantiser | None:
        """The quantiser that rounds nothing, where 8 bits hold the result."""
        source, line = pending.source, pending.lines[0]
        if any(other != line for other in pending.lines) or line.gain <= 0 or line.offset:
            return None
        kind = source.x.kind if isinstance(source, Same) else None
        scale = line.gain
        if isinstance(source, Sum):
            kind, scale = exact_sum(source), line.gain * source.a.scale
        if kind is None:
            return None
        if kind.bipolar:
            return Steps(kind, scale, -1, 1, ((Fraction(0),),))
        return Uniform(kind, scale, kind.lo, kind.hi, "ROUND")

    def raw(self, pending: Pending) -> str | None:
        """The accumulators themselves, for outputs without a quantiser; None for Same and Sum.

        Raises InputError where they would not compare: clamped, or with several scales.
        """
        if isinstance(pending.source, Same | Sum):
            return None
        linear, lines = oriented(as_linear(pending.source), pending.stretched())
        clamped = any(line.low is not None or line.high is not None for line in lines)
        if clamped or any(line.gain != lines[0].gain for line in lines):
            why = "are clamped" if clamped else "have one scale a channel"
            raise InputError(
                f"layer {printable(linear.path)}: the network's outputs are its accumulators and "
                f"{why}; give this layer an output quantiser (output_quant), or one weight scale"
            )
        finer, bias, error = raw_bias(linear, lines)
        name = self.linear(finer, bias, None)
        note = f"bias rounded by at most {error:.2g} of a step of the accumulator" if error else ""
        self.report.append(Exactness(name, "integer", note=note))
        kind = TensorType(MAX_ACT_BITS, True)  # of no consequence: only Flatten and ArgMax read it
        found = Quantised(name, kind, lines[0].gain, kind.lo, kind.hi)
        for change in pending.later:
            found = change(found)
        return found.name

    def join(self, path: str, pieces: Sequence[Pending], quantiser: Quantiser) -> Quantised:
        """A Concat whose every part goes through the quantiser."""
        parts = [self._part(piece, quantiser) for piece in pieces]
        name = self.add(
            ir.Concat(
                name=self.name(path),
                inputs=tuple(x.name for x, _ in parts),
                requantize=tuple(table for _, table in parts),
                out=quantiser.kind,
            )
        )
        if any(table is not None for _, table in parts):
            found = [self.differences.pop(x.name, Difference(0.0, 0)) for x, _ in parts]
            worst = max(found, key=lambda item: item.share)
            form = "rescaled" if worst.largest else "integer"
            self.report.append(Exactness(name, form, worst.share, worst.largest))
        return result(name, quantiser, [Line(Fraction(1))])

    def _part(self, piece: Pending, quantiser: Quantiser) -> tuple[Quantised, ir.Requantize | None]:
        """A part of a join: rescaled by the Concat, or a layer of its own in front of it."""
        source, line = piece.source, piece.lines[0]
        if isinstance(source, Same) and not piece.later and not quantiser.kind.bipolar:
            even = all(other == line for other in piece.lines) and line.gain > 0
            if even and not unchanged(source.x, piece.lines, quantiser):
                found = self._table(source, line, quantiser)
                if found is not None:
                    table, self.differences[source.x.name] = found
                    return source.x, table
        x = self.finish(piece, quantiser)
        if dataclasses.replace(x.kind, scale=None) == dataclasses.replace(
            quantiser.kind, scale=None
        ):
            return x, None
        same = Line(quantiser.scale)
        return x, table_of([same], quantiser, source.path)

    def linear(
        self, linear: Linear, bias: IntArray, table: ir.Requantize | ir.Thresholds | None
    ) -> str:
        """Append a convolution or dense layer."""
        if np.abs(bias).max() > BIAS_LIMIT:
            raise InputError(
                f"layer {printable(linear.path)}: its bias is more than 2^39 steps of the "
                "accumulator; train with a larger weight or activation scale"
            )
        fields: dict[str, Any] = {
            "name": self.name(linear.name),
            "inputs": (linear.x.name,),
            "weight": linear.weight,
            "bias": bias,
            "weight_bits": linear.bits,
            "weight_bipolar": linear.bipolar,
            "requantize": table,
        }
        window = linear.window
        if window is None:
            return self.add(ir.Dense(**fields))
        name = self.add(
            ir.Conv2d(
                **fields,
                stride=window.stride,
                padding=window.padding,
                dilation=window.dilation,
                groups=linear.groups,
            )
        )
        return self.flatten(name) if linear.flatten else name

    def flatten(self, name: str) -> str:
        """Append a Flatten of tensor `name`."""
        return self.add(ir.Flatten(name=self.name(f"{name}_flat"), inputs=(name,)))


def result(name: str, quantiser: Quantiser, lines: Sequence[Line]) -> Quantised:
    """The tensor that a quantiser behind these lines makes."""
    found = [limits(quantiser, channel, line) for channel, line in enumerate(lines)]
    lo, hi = min(lo for lo, _ in found), max(hi for _, hi in found)
    return Quantised(name, quantiser.kind, quantiser.scale, lo, hi)
