"""Flip-flop bits of every register, by closed form: the circuits of `hw`, counted.

The count is that of the Verilog before synthesis, with registers that nothing reads left out, as
in manifest.json `sites.ff_bits`.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd

from ...hw.config import (
    ADDS_PER_RANK,
    LayerConfig,
    Turn,
    WindowConfig,
    WindowedConfig,
    clog2,
)
from ...hw.join_config import JoinConfig
from ...hw.linear_config import LinearConfig
from ...hw.pairs import half_bits
from ...hw.reduce_config import ArgMaxConfig, PoolConfig
from ...hw.shift_config import ShiftConfig
from ...hw.threshold_ranks import index_ranks
from .blocks import single_lanes, weight_words
from .checks import check_ffs
from .joins import join_registers
from .registers import ALARM_BITS, Register, ff_bits, posted, replicated, results
from .requantize import Requantizer, requantizers
from .retry import log_control, log_registers
from .shapes import tree_sums
from .thresholds import ThresholdUnit, threshold_units

__all__ = [
    "Register",
    "converter",
    "ff_bits",
    "pool_tree",
    "registers",
    "step_cycles",
    "weight_columns",
]

MARKS = 6
"""Marks that follow a step through the pipeline; a seventh, `start`, where passes are counted."""

WINDOW_REGISTERS, SEQUENCER_REGISTERS, GATHER_REGISTERS = 11, 5, 3
"""Control registers beside ports, ranks and counts of groups; a checked one has a parity bit."""


def registers(layer: LayerConfig) -> Iterator[Register]:
    """Every register of a layer's circuit that something reads; no converters."""
    yield from replicated(_registers(layer), layer.control)


def _registers(layer: LayerConfig) -> Iterator[Register]:
    if isinstance(layer, JoinConfig):
        yield from join_registers(layer)
        for unit in requantizers(layer):
            yield from _requantizer(unit, layer)
        return
    assert isinstance(layer, WindowedConfig)
    if not layer.direct:
        yield from _window(layer.window)
    if layer.checked:
        yield Register("parity", "checker", _parity_bits(layer) + _spoiled(layer))
    if layer.alarmed:
        yield Register("alarm", "checker", ALARM_BITS)
    yield Register("spoiled", "control", 1, _spoiled(layer))
    match layer:
        case LinearConfig():
            yield from _linear(layer)
        case PoolConfig():
            yield from _pool(layer)
        case ArgMaxConfig():
            yield from _argmax(layer)


def _spoiled(layer: WindowedConfig) -> int:
    """The mark of a group of which a step read something wrong."""
    return int(layer.spoils and layer.window.steps > 1)


def converter(lanes: int, sink: LayerConfig, port: int = 0) -> Iterator[Register]:
    """Registers that join or split the words of a stream of `lanes` for an operand of a layer."""
    yield from replicated(_converter(lanes, sink, port), sink.control)


def _converter(lanes: int, sink: LayerConfig, port: int) -> Iterator[Register]:
    word = sink.in_lanes[port]
    wide = lanes * word // gcd(lanes, word)
    gather, split = wide // lanes, wide // word
    if sink.checked:
        yield Register("parity", "checker", GATHER_REGISTERS * (gather > 1) + (split > 1))
        yield Register("alarm", "checker", ALARM_BITS, (gather > 1) + (split > 1))
    if gather > 1:
        yield Register("count", "control", clog2(gather))
        yield Register("marks", "control", 2)
        yield Register("held", "fifo", lanes * sink.operand_bits[port] * (gather - 1))
    if split > 1:
        yield Register("index", "control", clog2(split))


def _parity_bits(layer: WindowedConfig) -> int:
    """One for each control register, and one for each rank of marks."""
    window = layer.window
    passes, ports = len(window.passes), window.ports * (1 + window.padded)
    delay = step_cycles(layer)
    buffer = 0 if layer.direct else WINDOW_REGISTERS + ports
    total = buffer + SEQUENCER_REGISTERS + (delay - 1) + (passes > 1)
    total += sum(register.count for register in _fifo(layer) if register.role == "control")
    match layer:
        case LinearConfig():
            addressed = not (layer.constant_weights or layer.block_weights)
            total += addressed + 3 * (layer.beats > 1) + layer.requantize_cycles
            return total + log_control(layer)
        case PoolConfig():
            places = (delay - 1) * any(layer.window.place_bits)
            return total + layer.requantize_cycles + places
    return total + 1  # ArgMax counts elements


def _window(window: WindowConfig) -> Iterator[Register]:
    rows, columns = window.out_size
    yield Register("position", "control", window.index_bits, 5)
    yield Register("flags", "control", 4)
    yield Register("oy", "control", clog2(rows))
    yield Register("ox", "control", clog2(columns))
    yield Register("address", "control", clog2(window.depth), window.ports)
    if window.padded:
        yield Register("outside", "control", 1, window.ports)
    yield Register("act", "activation", window.lane_bits, window.elements)
    if window.code_bits:
        yield Register("code", "activation", window.code_bits, window.elements)


def _sequencer(
    layer: WindowedConfig, delay: int, *, counted: bool, addressed: bool
) -> Iterator[Register]:
    """`counted`: something reads the number of the group; `addressed`: of the step.

    Parity and voters read every register.
    """
    steps, passes = layer.window.steps, len(layer.window.passes)
    repeats = not all(layer.leaving)
    counted = counted or repeats
    started, counted = counted or layer.guarded, counted or (layer.guarded and passes > 1)
    yield Register("step", "control", clog2(steps))
    yield Register("pass", "control", clog2(passes))
    if addressed or layer.guarded:
        yield Register("at", "control", clog2(steps * sum(layer.leaving)))
    yield Register("used", "control", layer.fifo_beats.bit_length())
    first = layer.guarded or not isinstance(layer, ShiftConfig)  # nothing accumulates
    yield Register("marks", "control", (MARKS - (not first) + started) * (delay - 1))
    if counted:
        yield Register("count", "control", clog2(passes))
    kept = repeats * (2 + (Turn.PLAIN in layer.turns))
    yield Register("done", "control", 4 + kept)


def _fifo(layer: LayerConfig) -> Iterator[Register]:
    bits = clog2(layer.fifo_beats) + 1
    if not isinstance(layer, LinearConfig) or not layer.modulus:
        yield Register("pointer", "control", bits, 2)
        return
    if layer.by_frame:
        yield Register("pointer", "control", bits, 3)
        yield Register("waits", "control", 1)
        return
    groups = layer.fifo_beats // layer.beats
    yield Register("pointer", "control", bits, 3)
    yield Register("recent", "control", 1, max(0, layer.verdict_cycles - 1))
    yield Register("verdicts", "checker", 1 << clog2(groups))
    yield Register("verdict_pointer", "control", clog2(groups), 2)


def _requantizer(unit: Requantizer, layer: LayerConfig) -> Iterator[Register]:
    found = [Register("column", "requant", bits) for bits in unit.columns]
    found += [Register("product", "requant", bits) for bits in unit.products]
    found.append(Register("total", "requant", unit.total))
    if unit.bound:
        found.append(Register("bound", "requant", unit.bound, unit.cycles - 1))
    yield from posted(found, layer.post)
    yield from _result(layer, unit.q)


def _result(layer: LayerConfig, bits: int, count: int = 1) -> Iterator[Register]:
    """A result's register, and its code's."""
    size = layer.out_code_bits
    found = [Register("q", "requant", bits, count), Register("code", "requant", size, count)]
    yield from results(found[: 1 + (size > 0)], layer.post, size > 0)


def _threshold(unit: ThresholdUnit, layer: LayerConfig) -> Iterator[Register]:
    later = len(unit.ranks) - 1
    found = [Register("threshold", "requant", rank.bits) for rank in unit.ranks if rank.bits]
    found.append(Register("acc", "requant", unit.acc_bits, later))
    found += [Register("found", "requant", bits) for bits in range(1, later + 1)]
    found.append(Register("index", "requant", clog2(unit.entries), index_ranks(unit.ranks)))
    yield from posted(found, layer.post)
    yield from _result(layer, len(unit.ranks))


def _linear(layer: LinearConfig) -> Iterator[Register]:
    passes, pe, steps, _ = layer.weight.shape
    units, searches = requantizers(layer), threshold_units(layer)
    indexed = any(unit.columns for unit in units) or any(unit.indexed for unit in searches)
    biased = passes > 1 and bool((layer.bias != layer.bias[0]).any())
    counted = passes > 1 and (indexed or biased)
    rom = not layer.constant_weights
    yield from _sequencer(layer, layer.lane_cycles, counted=counted, addressed=rom)
    late = (5 if layer.modulus else 4) * layer.requantize_cycles
    addressed = rom and not layer.block_weights
    if addressed:
        yield Register("address", "control", clog2(passes * steps))
    if rom:
        ranks = 2 if layer.block_weights else 1
        yield Register("weight", "weight", weight_columns(layer), ranks)
    if isinstance(layer, ShiftConfig):
        yield from _shift_adds(layer)
    else:
        yield from _lanes(layer)
    yield Register("result", "voter", layer.acc_bits, 2 * len(layer.voted))
    if layer.beats > 1:
        drain = Register("drain", "accumulator", layer.acc_bits * pe)
        yield from posted([drain], layer.drain_post)
        yield Register("left", "control", layer.beats + 3)
        if indexed or layer.guarded:
            yield Register("index", "control", clog2(len(layer.turns) * layer.beats))
    yield from _fifo(layer)
    if layer.modulus:
        yield from check_ffs(layer)
    yield from log_registers(layer)
    for unit in units:
        yield from _requantizer(unit, layer)
    for search in searches:
        yield from _threshold(search, layer)
    yield Register("late", "control", late)


def weight_columns(layer: LinearConfig) -> int:
    """Bits of all lanes' weight words together, codes included."""
    return sum(width * count for width, count in weight_words(layer))


def _lanes(layer: LinearConfig) -> Iterator[Register]:
    """Products, adder trees and accumulators; a pair's products are twice as wide as one."""
    lanes, pairs, half = single_lanes(layer), len(layer.pairs), half_bits(layer)
    yield Register("product", "product", layer.product_bits, lanes * layer.simd)
    yield Register("pair", "product", 2 * half, pairs * layer.simd)
    for count, bits in ((lanes, layer.term_bits), (2 * pairs, half)):
        sums = tree_sums([bits] * layer.simd, layer.acc_bits, ADDS_PER_RANK)
        yield Register("sum", "product", sum(sums), count)
    yield Register("acc", "accumulator", layer.acc_bits, lanes + 2 * pairs)


def _shift_adds(layer: ShiftConfig) -> Iterator[Register]:
    yield Register("node", "product", sum(delay.bits for delay in layer.delays))
    yield Register("acc", "accumulator", sum(layer.graph.bits[node] for node in layer.summed))
    if layer.clamps:
        yield from _result(layer, layer.out_bits, layer.pe)


def _pool(layer: PoolConfig) -> Iterator[Register]:
    units = requantizers(layer)
    indexed = any(unit.columns for unit in units)
    counted = indexed and len(layer.window.passes) > 1
    delay = layer.reduce_cycles
    yield from _sequencer(layer, delay, counted=counted, addressed=False)
    if indexed or layer.guarded:
        yield Register("place", "control", sum(layer.window.place_bits), delay - 1)
    bits = layer.acc_bits if layer.average else layer.window.lane_bits
    found = [Register("acc", "accumulator", bits, layer.out_lanes)]
    found += [Register("tree", "accumulator", bits, layer.out_lanes) for bits in pool_tree(layer)]
    yield from posted(found, layer.post)
    if not units and layer.out_code_bits:
        code = Register("code", "accumulator", layer.out_code_bits, layer.out_lanes)
        yield from results([code], layer.post, True)
    for unit in units:
        yield from _requantizer(unit, layer)
    if units:
        yield Register("late", "control", 4 * layer.requantize_cycles)
    yield from _fifo(layer)


def step_cycles(layer: WindowedConfig) -> int:
    """Cycles from a step's issue to its place in an accumulator."""
    if isinstance(layer, LinearConfig):
        return layer.lane_cycles
    assert isinstance(layer, PoolConfig | ArgMaxConfig)
    return layer.reduce_cycles


def pool_tree(layer: PoolConfig) -> list[int]:
    """Bits of the registers in which a lane of a pool combines the elements of a step."""
    element = 2 if layer.act_bipolar and layer.average else layer.window.lane_bits
    sums = tree_sums([element] * layer.simd, layer.acc_bits, ADDS_PER_RANK)
    return sums if layer.average else [element] * len(sums)


def _argmax(layer: ArgMaxConfig) -> Iterator[Register]:
    yield from _sequencer(layer, layer.reduce_cycles, counted=False, addressed=False)
    found = [Register("best", "accumulator", bits) for bits in (layer.in_bits, layer.out_bits)]
    yield from posted(found, layer.post)
    if layer.out_code_bits:
        code = Register("code", "accumulator", layer.out_code_bits)
        yield from results([code], layer.post, True)
    yield Register("count", "control", layer.out_bits)
    yield from _fifo(layer)


def by_role(layer: LayerConfig) -> dict[str, int]:
    """Bits of a layer's registers by role; roles without a register are missing."""
    found: dict[str, int] = {}
    for register in registers(layer):
        found[register.role] = found.get(register.role, 0) + register.total
    return found
