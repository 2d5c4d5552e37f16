"""Which word of the integer graph a register holds in a cycle: register upsets as tensor faults.

The manifest says how many cycles after its issue a step's weight, product and sum stand in their
registers; when each step is issued is read off the fault-free run, whose order is fixed: frame,
window, pass, step. An upset of a product, accumulator or weight register is then one change of one
word of one inference, or nothing at all while the register is idle. A pass that is computed three
times counts as three: what is voted is nothing, of what is not only the last time counts.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..quant import ranges
from ..quant.errors import ClaimError, InputError
from ..quant.faults import Op, Tensor, TensorFault
from ..quant.ir import Conv2d, Dense, Graph
from .engines import native
from .fields import Fields
from .manifest import Manifest
from .sites import Register
from .steady import Prepared

__all__ = ["Schedule", "accumulator_bits"]

_NAME = re.compile(
    r"(?P<layer>\w+)\.(?:lane_(?P<lane>\d+)(?:_r\d)?\."
    r"(?:product_(?P<product>\d+)|sum_(?P<rank>\d+)_(?P<sum>\d+)|(?P<latch>weight_latch)"
    r"|(?P<weight>weight)|(?P<acc>acc))"
    r"|products_(?P<high>\d+)_(?P<low>\d+)\."
    r"(?:product_(?P<shared>\d+)|(?P<pair>weight(?P<early>_latch)?))|(?P<results>results))"
)


@dataclass(frozen=True)
class _Multiply:
    """The manifest's schedule of one layer; cycles count from a step's issue."""

    issued: str
    pe: int
    simd: int
    lanes: int
    windows: int
    passes: int
    steps: int
    beats: int
    adds: int
    weight: int
    product: int
    accumulator: int
    repeated: frozenset[int] = frozenset()
    voted: frozenset[int] = frozenset()

    @functools.cached_property
    def turns(self) -> list[tuple[int, bool]]:
        """The pass of each turn over a window, and whether its result leaves."""
        found = []
        for number in range(self.passes):
            found += [(number, False)] * (2 * (number in self.repeated)) + [(number, True)]
        return found

    @property
    def steps_per_frame(self) -> int:
        return self.windows * len(self.turns) * self.steps

    def counts(self, step: _Step, lane: int) -> bool:
        """Whether what a lane computes in this step reaches a result."""
        return step.leaves and not (step.pass_ in self.repeated and lane in self.voted)


@dataclass(frozen=True)
class _Step:
    """One step of one pass: which frame and window of it, and which pass and step.

    `leaves`: the pass is not computed again.
    """

    frame: int
    window: int
    pass_: int
    step: int
    leaves: bool


def _multiply(fields: Fields) -> tuple[str, _Multiply] | None:
    name, schedule = fields.identifier("name"), fields.child("schedule")
    if schedule.value.get("multiply") is None:
        return None
    found, folding = schedule.child("multiply"), fields.child("folding")
    counts = {key: schedule.integer(key, 1) for key in ("windows", "passes", "steps", "beats")}
    keys = ("lanes", "adds", "weight", "product", "accumulator")
    cycles = {key: found.integer(key, 1) for key in keys}
    pe, simd = folding.integer("pe", 1), folding.integer("simd", 1)
    known = _Multiply(found.hierarchy("issued"), pe, simd, **counts, **cycles)  # type: ignore[arg-type]
    repeated, voted = _optional(schedule, "repeated"), _optional(found, "voted")
    return name, replace(known, repeated=frozenset(repeated), voted=frozenset(voted))


def _optional(fields: Fields, key: str) -> tuple[int, ...]:
    """Integers; none in a manifest that is older than the key."""
    return fields.integers(key) if key in fields.value else ()


def accumulator_bits(found: Manifest) -> dict[str, int]:
    """Width of the accumulators of each layer with lanes: what the circuit has, checks included."""
    pattern = re.compile(r"(\w+)\.lane_\d+(?:_r\d)?\.acc")
    matches = [(pattern.fullmatch(r.name), r.width) for r in found.registers]
    return {match[1]: width for match, width in matches if match}


def _flipped(word: int, bit: int, width: int) -> int:
    """A two's complement word with one bit inverted."""
    code = (word & ((1 << width) - 1)) ^ (1 << bit)
    return code - (1 << width) if code >> (width - 1) else code


class Schedule:
    """The words of a prepared design's registers, cycle by cycle."""

    def __init__(self, prepared: Prepared, graph: Graph) -> None:
        found = prepared.model.manifest
        path = found.directory / "manifest.json"
        rows = [_multiply(Fields(path, "layers", row)) for row in found.raw["layers"]]
        self.layers = dict(row for row in rows if row is not None)
        if not self.layers:
            raise InputError(
                f"{path}: no layer with layers.schedule.multiply: no lanes multiply, or the "
                "directory was built before it was written; build it again"
            )
        self.graph, self.frames = graph, len(prepared.stimulus.frames)
        self.order = {tap.layer: tap.stream.permutation for tap in found.taps}
        self.sources = {row["name"]: row["sources"] for row in found.raw["layers"]}
        names = [layer.issued for layer in self.layers.values()]
        cycles = np.arange(prepared.golden.cycles)
        columns = native.register_bits(prepared.model, prepared.stimulus, cycles, names)
        self.issued = {
            name: np.flatnonzero(column) - 1
            for name, column in zip(self.layers, columns, strict=True)
        }
        for name, layer in self.layers.items():
            if len(self.issued[name]) < layer.steps_per_frame:
                raise ClaimError(f"layer {name}: the fault-free run issues too few steps")

    def step(self, layer: str, cycle: int) -> _Step | None:
        """The step that `layer` issues in this cycle."""
        number = int(np.searchsorted(self.issued[layer], cycle))
        if number == len(self.issued[layer]) or self.issued[layer][number] != cycle:
            return None
        known = self.layers[layer]
        frame, rest = divmod(number, known.steps_per_frame)
        group, step = divmod(rest, known.steps)
        window, turn = divmod(group, len(known.turns))
        pass_, leaves = known.turns[turn]
        return _Step(frame, window, pass_, step, leaves)

    def faults(
        self, register: Register, bit: int, cycle: int
    ) -> tuple[int, list[TensorFault]] | None:
        """What inverting `bit` of a register at the start of `cycle` is: the frame of the stream
        and the faults of its inference, none where the register is idle or voted.

        None where that is no change of words that the integer graph has: other registers, and sums
        over channels that the stream has in another order.
        """
        if register.role == "voter":
            return 0, []
        match = _NAME.fullmatch(register.name)
        if match is None or match["layer"] not in self.layers:
            return None
        layer = match["layer"]
        if register.replica is not None:
            return 0, []
        if [each.offset for each in register.bits] != list(range(register.width)):
            return None  # synthesis left bits out
        if match["pair"]:
            return self._pair(self.layers[layer], match, register.width, bit, cycle)
        found = self._fault(self.layers[layer], match, register.width, bit, cycle)
        if found is None:
            return 0, []
        step, fault = found
        renumbered = self._renumbered(layer, fault) if step.frame < self.frames else None
        return None if renumbered is None else (step.frame, [renumbered])

    def _pair(
        self, known: _Multiply, match: Any, width: int, bit: int, cycle: int
    ) -> tuple[int, list[TensorFault]] | None:
        """A weight register that two lanes share: the low one's weight, and the high one's less
        one where that is negative; its sign reaches both."""
        layer, node = match["layer"], self.graph.node(match["layer"])
        step = self.step(layer, cycle - known.weight + (match["early"] is not None))
        if step is None:
            return 0, []
        assert isinstance(node, Conv2d | Dense)
        product = ranges.types(self.graph)[node.inputs[0]].bits + node.weight_bits
        place, bit = divmod(bit, width // known.simd)
        probes = []
        for lane in (int(match["high"]), int(match["low"])):
            index = self._element(known, layer, step, lane)
            at = step.step * known.simd + place
            probe = TensorFault(layer, Tensor.WEIGHT_READ, index, 0, Op.PUT, step=at, width=product)
            probes.append(self._renumbered(layer, probe))
        high, low = probes
        if high is None or low is None or step.frame >= self.frames:
            return None
        weight = node.weight.reshape(node.out_channels, -1)
        old = [int(weight[p.index % node.out_channels, p.step]) for p in (high, low)]
        counts = [known.counts(step, int(match[name])) for name in ("high", "low")]
        bits, code, new_low = node.weight_bits, old[0] - (old[1] < 0), old[1]
        if bit < bits:
            new_low = _flipped(new_low, bit, bits)
        else:
            code = _flipped(code, bit - bits, width // known.simd - bits)
        pairs = zip((high, low), old, (code + (new_low < 0), new_low), counts, strict=True)
        return step.frame, [replace(p, value=v) for p, was, v, seen in pairs if seen and v != was]

    def _fault(
        self, known: _Multiply, match: Any, width: int, bit: int, cycle: int
    ) -> tuple[_Step, TensorFault] | None:
        """Step and fault, channels in the stream's order; None where the register is idle."""
        layer = match["layer"]
        if match["results"]:
            return self._results(known, layer, width, bit, cycle)
        shared = match["shared"] is not None
        if shared:
            half = width // 2
            lane, width = int(match["low"] if bit < half else match["high"]), half
            bit, first, span = bit % half, int(match["shared"]), 1
        else:
            lane, first, span = int(match["lane"]), 0, 1
        tensor, delay = Tensor.PRODUCT, known.product
        if match["product"]:
            first = int(match["product"])
        elif match["sum"]:
            span = known.adds ** (int(match["rank"]) + 1)
            first = int(match["sum"]) * span
            span, delay = min(span, known.simd - first), known.product + 1 + int(match["rank"])
        elif match["acc"]:
            tensor, delay, first = Tensor.ACCUMULATOR, known.accumulator, known.simd - 1
        elif not shared:
            bits = width // known.simd
            first, bit = divmod(bit, bits)
            tensor, width = Tensor.WEIGHT_READ, 0
            delay = known.weight - (match["latch"] is not None)
        step = self.step(layer, cycle - delay)
        if step is None or not known.counts(step, lane):
            return None
        place = step.step * known.simd + first
        index = self._element(known, layer, step, lane)
        return step, TensorFault(layer, tensor, index, 1 << bit, step=place, span=span, width=width)

    def _results(
        self, known: _Multiply, layer: str, width: int, bit: int, cycle: int
    ) -> tuple[_Step, TensorFault] | None:
        """The drain register: all lanes' sums, which move down by a beat a cycle."""
        bits = width // known.lanes
        for beat in range(known.beats):
            step = self.step(layer, cycle - known.accumulator - 1 - beat)
            if step is None or step.step != known.steps - 1 or not step.leaves:
                continue
            lane = bit // bits + beat * (known.lanes // known.beats)
            if lane >= known.lanes:
                return None
            index = self._element(known, layer, step, lane)
            value = 1 << bit % bits
            return step, TensorFault(layer, Tensor.ACCUMULATOR, index, value, width=bits)
        return None

    def _element(self, known: _Multiply, layer: str, step: _Step, lane: int) -> int:
        """Element of the layer's result that a lane computes, in the model's order of channels."""
        pixel, lane = divmod(lane, known.pe)
        pixels = known.lanes // known.pe
        channel = step.pass_ * known.pe + lane
        order = self.order.get(layer)
        channel = channel if order is None else order[channel]
        node = self.graph.node(layer)
        assert isinstance(node, Conv2d | Dense)
        return (step.window * pixels + pixel) * node.out_channels + channel

    def _renumbered(self, layer: str, fault: TensorFault) -> TensorFault | None:
        """The fault with its product in the model's order of input channels."""
        source = self.sources[layer][0]
        order = None if source is None else self.order.get(source)
        node = self.graph.node(layer)
        assert isinstance(node, Conv2d | Dense)
        terms = node.weight[0].size
        whole = fault.tensor == Tensor.ACCUMULATOR and fault.step in (-1, terms - 1)
        if order is None or whole:
            return fault
        if fault.span > 1 or fault.tensor == Tensor.ACCUMULATOR:
            return None
        if isinstance(node, Conv2d) and node.groups > 1:
            return None
        rest, channel = divmod(fault.step, len(order))
        return replace(fault, step=rest * len(order) + order[channel])
