"""LUTs by a linear model: what a layer has of each kind of logic, times a fitted price.

Prices come from whole small networks that `flow.characterize` synthesised; the table of a family
names the tools, the command and the error on designs that the fit never saw. LUTs that hold words
(LUT RAM) are counted exactly and bear no price.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd, log2
from pathlib import Path

import numpy as np

from ...hw.config import ADDS_PER_RANK, LayerConfig, Turn, WindowedConfig, clog2
from ...hw.join_config import AddConfig, JoinConfig, MergeConfig
from ...hw.linear_config import LinearConfig
from ...hw.pairs import half_bits
from ...hw.reduce_config import ArgMaxConfig, PoolConfig
from ...hw.shift_config import ShiftConfig
from . import checks
from .blocks import Placed, products, single_lanes
from .codes import guards
from .columns import bits_of, changing, column_luts, rom_luts
from .families import FAMILIES, Blocks
from .ffs import Register, pool_tree
from .mapped import distinct_weights
from .packing import in_blocks, packed_sums, pairs_in_blocks, scaled_in_blocks, taken
from .registers import REPLICAS
from .requantize import Requantizer, distinct_columns, requantizers
from .retry import log_words
from .shapes import tree_sums
from .thresholds import ThresholdUnit, threshold_units

__all__ = ["Model", "features", "model"]

TABLES = Path(__file__).parent / "tables"


UNFITTED = {
    "shift_add_bits": 1.0,
    "shared_sum_bits": 1.0,
    "check_luts": 1.0,
    "vote_bits": 1.0,
    "code_luts": 1.0,
    "control_voter_bits": 1.6,
    "replay_bits": 1.0,
}
"""LUTs of what the fitted designs lack: adders, voters, a voter with its register's reload, codes.
"""


@dataclass(frozen=True, eq=False)
class Model:
    """Prices of a family in LUTs, the tools they hold for, and the errors of the fit.

    `errors`: `luts` and `ffs`, mean relative errors (0.05 = 5 %) of whole designs, for LUTs of
    designs that the fit did not see; `worst`, the largest of those; `more`, by what nine in ten of
    them stayed below, relative to the estimate.
    """

    prices: Mapping[str, float]
    tools: str
    designs: int
    errors: Mapping[str, float]

    def luts(self, found: Mapping[str, float], lutrams: float) -> float:
        """LUTs of a layer from its features and the LUTs of its LUT RAM."""
        prices = {**UNFITTED, **self.prices}
        return lutrams + sum(prices.get(name, 0.0) * n for name, n in found.items())


@functools.cache
def model(family: str) -> Model | None:
    """The fitted model of a family, None where nobody measured one."""
    known = FAMILIES.get(family)
    path = TABLES / f"{known.table}.json" if known else None
    if path is None or not path.is_file():
        return None
    table = json.loads(path.read_text())
    return Model(table["prices"], table["tools"], table["designs"], table["errors"])


def features(
    layer: LayerConfig,
    held: Sequence[Register],
    placed: Sequence[Placed],
    lanes: Sequence[int],
    family: Blocks,
) -> dict[str, float]:
    """Amounts of logic in a layer and in the converters before it.

    `lanes` are those of the operands' streams.

    `held` are the layer's registers, `placed` its memories.
    """
    found: dict[str, float] = {"layer": 1.0}
    _add(found, _control(layer, held))
    _add(found, guards(layer, held, family.lut_inputs))
    for port, width in enumerate(lanes):
        _add(found, _converter(layer, width, port))
    if isinstance(layer, JoinConfig):
        _add(found, _join(layer, placed, family))
        return found
    assert isinstance(layer, WindowedConfig)
    if not layer.direct:
        _add(found, _window(layer, placed, family))
    match layer:
        case ShiftConfig():
            carries = layer.graph.carry_bits + sum(layer.widths)
            found["shift_add_bits"] = layer.graph.adder_bits if family.lut_inputs > 4 else carries
            found["clamp_bits"] = layer.clamps * layer.pe * layer.out_bits
        case LinearConfig():
            _add(found, _linear(layer, placed, family))
            if layer.retry:  # what is issued comes from the counters or from the log
                found["replay_bits"] = sum(log_words(layer))
            if layer.modulus:
                _add(found, _checksum(layer, placed, family.lut_inputs))
        case PoolConfig():
            bits = layer.acc_bits if layer.average else 2 * layer.window.lane_bits
            compared = 1 if layer.average else layer.simd
            found["pool_bits"] = compared * layer.out_lanes * bits
            found["sum_bits"] = layer.average * layer.out_lanes * sum(pool_tree(layer))
        case ArgMaxConfig():
            found["argmax_bits"] = layer.in_bits + layer.out_bits
    if isinstance(layer, LinearConfig | PoolConfig):
        _add(found, _requantizers(requantizers(layer), family))
        _add(found, _thresholds(threshold_units(layer)))
    return found


def _add(found: dict[str, float], more: Iterable[tuple[str, float]]) -> None:
    for name, amount in more:
        found[name] = found.get(name, 0.0) + amount


def _window(
    layer: WindowedConfig, placed: Sequence[Placed], family: Blocks
) -> Iterable[tuple[str, float]]:
    window = layer.window
    address, inputs = clog2(window.depth), family.lut_inputs
    yield "position_bits", window.index_bits
    yield "address_bits", window.ports * address
    for port in range(window.ports):
        offsets = tuple(window.offset(step[port]) % window.depth for step in window.taps)
        yield "offset_rom", column_luts(offsets, inputs)
    yield "offset_rom", column_luts(window.passes, inputs)
    if window.padded:
        yield "padding_bits", window.elements * window.lane_bits + 2 * window.ports
        yield "inside_rom", rom_luts(window.out_size[0], window.kernel[0], inputs)
        yield "inside_rom", rom_luts(window.out_size[1], window.kernel[1], inputs)
        for size, bits in zip(window.out_size, window.place_bits, strict=True):
            yield "inside_rom", rom_luts(size, bits, inputs)
    yield from _stores(placed, family)


def _stores(placed: Sequence[Placed], family: Blocks) -> Iterable[tuple[str, float]]:
    """Buffers and FIFOs: words out of flip-flops, multiplexers between cells, bypasses."""
    for one in placed:
        memory = one.memory
        if not memory.written:
            continue
        if one.ram is None:
            yield "memory_bits", memory.depth * memory.width * memory.count
        elif one.rows > 1:
            yield "memory_mux", (one.rows - 1) * (memory.width + 1) * memory.count
        if memory.role == "window" and one.brams and not family.reads_old:
            yield "bypass_bits", memory.count * (memory.width + clog2(memory.depth))


def _join(
    layer: JoinConfig, placed: Sequence[Placed], family: Blocks
) -> Iterable[tuple[str, float]]:
    yield from _stores(placed, family)
    together = isinstance(layer, MergeConfig)  # nothing is chosen between
    others = 0 if together else len(layer.operands) - 1
    yield "padding_bits", layer.out_lanes * layer.out_bits * others
    if isinstance(layer, AddConfig):
        yield "sum_bits", 2 * layer.out_lanes * layer.acc_bits
    for product in products(layer):
        if product.role == "rescale" and not taken(product.a, product.b, product.bits, family):
            yield "scale_rows", product.count * product.a[0] * (product.b[0] - 1)
    yield from _requantizers(requantizers(layer), family)


def _converter(layer: LayerConfig, lanes: int, port: int) -> Iterable[tuple[str, float]]:
    word, bits = layer.in_lanes[port], layer.operand_bits[port]
    wide = lanes * word // gcd(lanes, word)
    if wide > lanes:
        yield "converter", 1
    if wide > word:
        yield "converter", 1
        yield "split_bits", wide * bits


def _control(layer: LayerConfig, found: Iterable[Register]) -> Iterable[tuple[str, float]]:
    bits = sum(r.total for r in found if r.role == "control")
    if layer.control == "tmr":
        bits //= REPLICAS
        yield "control_voter_bits", bits
    yield "control_bits", bits
    yield "parity_bits", bits * layer.checked


def _linear(
    layer: LinearConfig, placed: Sequence[Placed], family: Blocks
) -> Iterable[tuple[str, float]]:
    passes, pe, steps, simd = layer.weight.shape
    lanes = pe + 2 * len(layer.replicated)
    if not layer.multiplies:
        yield "sum_bits", 0 if layer.constant_weights else lanes * simd * layer.product_bits
    elif layer.constant_weights:
        yield from _constant_products(layer, family)
    elif not (in_blocks(layer, family) or pairs_in_blocks(layer, family)):
        moving, fixed = _multiplier_bits(layer)
        yield "multiplier_bits", layer.act_bits * moving
        yield "fixed_bits", layer.act_bits * fixed
        yield "multiplier_rows", max(0, moving - lanes * simd) * layer.act_bits
    weights = [one for one in placed if one.memory.role == "weight"]
    if weights and not weights[0].brams:
        yield from _weight_rom(passes * steps, distinct_weights(layer), family.lut_inputs)
    alone = single_lanes(layer)
    sums = tree_sums([layer.term_bits] * simd, layer.acc_bits, ADDS_PER_RANK)
    packed = packed_sums(layer, family)
    added = sums[-(-simd // ADDS_PER_RANK) :] if packed and simd > 1 else sums
    yield "sum_bits", alone * sum(added)
    extra = simd - 1 - len(sums)  # operands beyond two in a rank are compressed first
    yield "compress_bits", 0 if packed else alone * max(0, extra) * layer.term_bits
    yield "packed_bits" if packed and simd == 1 else "acc_bits", alone * layer.acc_bits
    # Blocks that two lanes share add at most the constant; a sum of n terms carries n - 1 times.
    half, constants = half_bits(layer), len(layer.pairs) * simd
    yield "shared_sum_bits", (lanes - alone) * (simd - 1) * (half + 2)
    if not (family.dsp and family.dsp.packing == "sums"):
        yield "shared_sum_bits", constants * (half + 1)
    yield "acc_bits", (lanes - alone) * layer.acc_bits
    if (layer.bias != layer.bias[0]).any():
        yield "bias_rom", rom_luts(len(layer.turns), lanes * layer.acc_bits, family.lut_inputs)
    yield "drain_bits", pe * layer.acc_bits if layer.beats > 1 else 0
    yield "voter_bits", len(layer.replicated) * layer.acc_bits
    yield "vote_bits", len(layer.replicated) * (layer.voters - 1) * layer.acc_bits
    chosen = 1 + (Turn.PLAIN in layer.turns)  # the majority or the result of a single pass
    yield "vote_bits", len(layer.voted) * chosen * layer.acc_bits


def _weight_rom(words: int, columns: int, inputs: int) -> Iterable[tuple[str, float]]:
    """A table of weights: shallow ones share logic between columns, each doubling shares less."""
    luts = rom_luts(words, columns, inputs)
    yield "weight_rom", luts
    yield "deep_rom", luts * max(0.0, log2(words / (4 << inputs)))


def _constant_products(layer: LinearConfig, family: Blocks) -> Iterable[tuple[str, float]]:
    for product in products(layer):
        if product.role == "constant":
            blocks = family.dsp.blocks(product.a, product.b, product.bits) if family.dsp else 0
            if not blocks:
                yield "multiplier_bits", product.count * product.a[0] * product.b[0]


def _multiplier_bits(layer: LinearConfig) -> tuple[int, int]:
    """Weight bits of all multipliers that change from step to step, and that are always one."""
    passes, pe, steps, simd = layer.weight.shape
    rows = layer.weight.transpose(0, 2, 1, 3).reshape(passes * steps, pe * simd)
    columns = bits_of(rows, layer.weight_bits)
    copies = np.array([3 if lane in layer.replicated else 1 for lane in range(pe)])
    moving, ones = (
        (bits.reshape(pe, -1).sum(axis=1) * copies).sum()
        for bits in (changing(columns), columns.all(axis=0).astype(np.int64))
    )
    return int(moving), int(ones)


def _checksum(
    layer: LinearConfig, placed: Sequence[Placed], inputs: int
) -> Iterable[tuple[str, float]]:
    check = layer.filter_check
    moving = 0 if layer.by_frame else int(changing(bits_of(check.rows, check.weight_bits)).sum())
    yield from checks.amounts(layer, moving, inputs)
    if not any(one.brams for one in placed if one.memory.role == "checker"):
        words, columns = checks.lookups(layer)
        if words:
            yield from _weight_rom(words, columns, inputs)


def _requantizers(units: tuple[Requantizer, ...], family: Blocks) -> Iterable[tuple[str, float]]:
    for unit in units:
        yield "round_bits", sum(unit.products) if len(unit.products) > 1 else 0
        width = max(unit.products, default=unit.acc_bits)
        yield "scale_bits", max(1, width - unit.shift)
        yield "clamp_bits", unit.out_bits
        if not scaled_in_blocks(unit, family):
            yield "scale_rows", _scale_rows(unit)
    for entries in sorted({unit.entries for unit in units}):
        alike = tuple(unit for unit in units if unit.entries == entries)
        yield "column_rom", rom_luts(entries, distinct_columns(alike), family.lut_inputs)


def _thresholds(units: tuple[ThresholdUnit, ...]) -> Iterable[tuple[str, float]]:
    for unit in units:
        yield "sum_bits", unit.compared_bits  # a comparator is a chain of carries, as an adder
        yield "column_rom", unit.table_luts


def _scale_rows(unit: Requantizer) -> int:
    """Bits of the rows that a multiplier out of LUTs adds; one row for each one of a constant."""
    if unit.constant is not None:
        ones = unit.constant.bit_count()
        return max(0, ones - 1) * unit.acc_bits
    return sum(a[0] * b[0] for a, b in unit.factors)
