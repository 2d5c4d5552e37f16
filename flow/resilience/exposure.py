"""When each register of a layer holds something that matters, and what a flip there does then.

Registers are those of `flow.costs.ffs`; steps, passes and groups those of the configuration; the
probabilities come from the graph's sensitivity and, for control, from measured constants.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ...hw.config import LayerConfig, WindowedConfig, tree_levels
from ...hw.join_config import AddConfig, JoinConfig
from ...hw.linear_config import LinearConfig
from ...hw.reduce_config import ArgMaxConfig, PoolConfig
from ...quant.sensitivity import LayerSensitivity
from ..costs import ffs
from ..costs.layer import Fork, around
from ..costs.registers import Register
from ..costs.requantize import SPLIT_BITS, Requantizer, requantizers
from . import control

__all__ = ["Exposure", "exposures"]


@dataclass(frozen=True, slots=True)
class Exposure:
    """Registers of a role: `bits`, and what a flip does.

    `live` is the number of cycles of a frame in which a bit holds something that is read, None for
    all of the interval; `probability` that a flip in such a cycle changes the top-1. `lane`: the
    registers belong to lanes and are three times there where those are replicated. `port` is the
    operand whose words they hold. `kind`: of layer, for control, whose `name` is its family.
    """

    role: str
    name: str
    bits: int
    live: float | None
    probability: float
    lane: bool = False
    port: int | None = None
    kind: str = ""


@functools.lru_cache(maxsize=8192)
def exposures(
    layer: LayerConfig,
    lanes: tuple[int, ...],
    forks: tuple[Fork, ...],
    table: LayerSensitivity,
) -> tuple[Exposure, ...]:
    """All registers of a layer, the converters before it and the forks behind it.

    Layers and tables compare by identity, so that plans and foldings share what they have in
    common.
    """
    between = [_between(layer, one, table) for one in around(layer, lanes, forks) if one.total]
    if isinstance(layer, JoinConfig):
        found = [*_join(layer, table), *_rescaled(layer, table)]
    else:
        own = [one for one in ffs.registers(layer) if one.total and one.role != "requant"]
        found = [_exposure(layer, one, table) for one in own]
        found += _rescaled(layer, table)
    return (*found, *_copies(layer, found), *between)


def _copies(layer: LayerConfig, found: Iterable[Exposure]) -> Iterator[Exposure]:
    """Registers of the layer beyond those of its function: copies that are compared or voted."""
    bits: Counter[str] = Counter()
    for register in ffs.registers(layer):
        bits[register.role] += register.total
    for one in found:
        bits[one.role] -= one.bits
    for role, more in bits.items():
        if more > 0:
            yield Exposure(role, "copies", more, 0.0, 0.0)


def _rescaled(layer: LayerConfig, table: LayerSensitivity) -> Iterator[Exposure]:
    """What turns sums into results: requantisers, thresholds, a shift and a clamp."""
    units: tuple[Requantizer, ...] = ()
    if isinstance(layer, LinearConfig | PoolConfig | JoinConfig):
        units = requantizers(layer)
    for unit in units:
        yield from _rescaling(layer, unit, table)
    if not units:
        live, chance = float(_drained(layer)), table.mean("result")
        for register in ffs.registers(layer):
            if register.role == "requant" and register.total and register.name != "code":
                yield Exposure("requant", register.name, register.total, live, chance)


def _issued(layer: LayerConfig) -> int:
    """Steps of a frame: cycles in which the pipeline of a layer takes something."""
    return layer.groups_per_frame * layer.steps


def _drained(layer: LayerConfig) -> int:
    """Beats of a frame that pass the requantisers."""
    return layer.groups_per_frame * layer.beats


def _exposure(layer: LayerConfig, register: Register, table: LayerSensitivity) -> Exposure:
    role, name, bits = register.role, register.name, register.total
    if role == "control":
        return _controlled(layer.op, register)
    if role in ("checker", "voter") or name == "code":  # a false alarm, no wrong class
        return Exposure(role, name, bits, 0.0, 0.0)
    match layer:
        case LinearConfig():
            return _linear(layer, register, table)
        case PoolConfig() | ArgMaxConfig():
            live = float(_issued(layer))
            return Exposure(role, name, bits, live, _reduced(layer, register, table))
    raise AssertionError(f"{layer.name}: no rule for its registers")


def _controlled(kind: str, register: Register) -> Exposure:
    """A measured constant, in any cycle."""
    chance = control.rate(kind, register.name)
    return Exposure("control", register.name, register.total, None, chance, kind=kind)


def _linear(layer: LinearConfig, register: Register, table: LayerSensitivity) -> Exposure:
    role, name, bits, steps = register.role, register.name, register.total, layer.steps
    live = float(_issued(layer))
    if name == "drain":
        beats = layer.groups_per_frame * (layer.beats + 1) / 2  # it empties beat by beat
        return Exposure(role, name, bits, beats, table.mean("acc", 0, layer.acc_bits))
    if role == "activation":
        return Exposure(role, name, bits, live, _element(layer, table), port=0)
    if role == "weight":
        return Exposure(role, name, bits, live, table.mean("weight"), lane=True)
    if name == "acc":
        last = table.mean("acc", 0, layer.acc_bits) / steps
        rest = table.mean("partial", 0, layer.acc_bits) * (steps - 1) / steps
        return Exposure(role, name, bits, live, last + rest, lane=True)
    if name == "node":  # a shared sum of an unrolled layer, which some of its outputs read
        one = table.mean("product")
        return Exposure(role, name, bits, live, max(one, table.act(layer.group_lanes)))
    product = table.mean("product")
    if name == "sum":  # wider than a product by what a rank adds
        extra = 2 * tree_levels(layer.simd)
        width = len(table.curves["product"]) + extra
        product = (product * (width - extra) + table.mean("partial") * extra) / width
    return Exposure(role, name, bits, live, product, lane=True)


def _element(layer: LinearConfig, table: LayerSensitivity) -> float:
    """A window's element goes to the lanes of a group, and to those of overlapping windows."""
    readers = sum(len(pick) for pick in layer.picks) / max(1, layer.elements)
    return min(1.0, table.act(layer.group_lanes) * readers)


def _reduced(layer: WindowedConfig, register: Register, table: LayerSensitivity) -> float:
    if register.name == "best":
        assert isinstance(layer, ArgMaxConfig)
        wide = layer.in_bits * table.mean("best") + layer.out_bits * table.mean("index")
        return wide / (layer.in_bits + layer.out_bits)
    if isinstance(layer, ArgMaxConfig):
        return table.mean("operand0")
    return table.mean("act" if register.role == "activation" else "partial")


def _join(layer: JoinConfig, table: LayerSensitivity) -> Iterator[Exposure]:
    """Operand FIFOs: a word of the deepest waits nearly always, those of the others pass; behind
    them the elements, and the rescaled operands of an Add."""
    ports = iter(range(len(layer.operands)))
    worst = max(table.mean(f"operand{port}") for port in range(len(layer.operands)))
    deepest = max(operand.depth for operand in layer.operands)
    words = float(layer.groups_per_frame)
    for register in ffs.registers(layer):
        role, name, bits = register.role, register.name, register.total
        if not bits:
            continue
        if role == "control":
            yield _controlled(layer.op, register)
        elif role == "requant" and isinstance(layer, AddConfig) and name == "product":
            chance = table.mean("acc", 0, register.bits)  # one of two operands, not yet summed
            yield Exposure(role, "term", bits, words, chance)
        elif name == "held":
            port = next(ports)
            operand = layer.operands[port]
            live = None if operand.depth == deepest > 4 else float(operand.words)
            yield Exposure(role, name, bits, live, table.mean(f"operand{port}"), port=port)
        elif role == "activation" and name != "code":
            yield Exposure(role, name, bits, words, worst, port=0)
        elif role != "requant":
            yield Exposure(role, name, bits, 0.0, 0.0)


def _rescaling(
    layer: LayerConfig, unit: Requantizer, table: LayerSensitivity
) -> Iterator[Exposure]:
    """One lane's requantiser: bits of a product below the shift only round."""
    live = float(_drained(layer))
    result = table.mean("result")

    def total(first: int, bits: int) -> float:
        if "total" in table.curves:
            return table.mean("total", first, bits)
        if "acc" in table.curves:
            return table.mean("acc", first + unit.shift, bits)
        kept = max(0, min(first + bits, unit.out_bits) - max(first, 0))
        return result * kept / bits if bits else 0.0

    for bits in unit.columns:
        chance = table.mean("multiplier") if "multiplier" in table.curves else result
        yield Exposure("requant", "column", bits, live, chance)
    for place, bits in enumerate(unit.products):
        first = place * SPLIT_BITS - unit.shift
        yield Exposure("requant", "product", bits, live, total(first, bits))
    yield Exposure("requant", "total", unit.total, live, total(0, unit.total))
    yield Exposure("requant", "q", unit.q, live, result * unit.out_bits / unit.q)
    if unit.bound:
        yield Exposure("requant", "bound", unit.bound * (unit.cycles - 1), live, result)


def _between(layer: LayerConfig, register: Register, table: LayerSensitivity) -> Exposure:
    """Converters: a word that is gathered waits half of the time for its last part; forks."""
    role, name, bits = register.role, register.name, register.total
    if role == "checker":
        return Exposure(role, name, bits, 0.0, 0.0)
    if role == "control":
        return _controlled("fork" if name == "taken" else "converter", register)
    worst = max(table.mean(f"operand{port}") for port in range(len(layer.sources)))
    return Exposure(role, name, bits, None, worst / 2, port=0)
