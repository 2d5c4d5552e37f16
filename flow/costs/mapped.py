"""Flip-flops after synthesis: what Yosys removes from the registers, and what it adds.

Removed are registers that end up inside a memory block, bits that are constant or repeat another
bit, and equal columns of tables. Added is the logic that makes a memory block answer as the
circuit's memory does. What is not modelled shows as the error that docs/estimate.md states.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from ...hw.code_words import code_bits, encode_int
from ...hw.config import ADDS_PER_RANK, LayerConfig, WindowedConfig, clog2, multiplies_by_one
from ...hw.join_config import AddConfig, JoinConfig, PadConfig
from ...hw.linear_config import LinearConfig
from ...hw.pairs import codes, high_bits
from ...hw.reduce_config import ArgMaxConfig, PoolConfig
from ...quant.ir import IntArray, Requantize
from .blocks import Placed, single_lanes
from .checks import merged
from .columns import bits_of, distinct
from .families import Blocks
from .ffs import step_cycles, weight_columns
from .packing import packed_registers
from .requantize import Requantizer, distinct_columns, requantizers
from .shapes import tree_sums, vector
from .thresholds import threshold_units

__all__ = ["added", "distinct_weights"]


def added(layer: LayerConfig, placed: Sequence[Placed], family: Blocks, *, first: bool) -> int:
    """Flip-flops of the mapped netlist less the register bits of the Verilog, mostly negative.

    `first`: nothing flags frames before this layer.
    """
    total = _memories(placed, family)
    if isinstance(layer, JoinConfig):
        total += _requantizers(requantizers(layer), placed) - _join(layer)
        return total - packed_registers(layer, family)
    assert isinstance(layer, WindowedConfig)
    total += 0 if layer.direct else _window(layer)
    if first:
        total -= _unflagged(layer)
    if isinstance(layer, LinearConfig):
        total += _lanes(layer, placed)
        total -= _dropped(layer)
        blocks = any(one.brams for one in placed if one.memory.role == "checker")
        total -= merged(layer, in_block=blocks)
    if isinstance(layer, LinearConfig | PoolConfig):
        total += _requantizers(requantizers(layer), placed)
    if any(one.brams for one in placed if one.memory.role == "column"):
        total -= sum(unit.ranks[0].bits for unit in threshold_units(layer))
    if family.tidies and not layer.direct and layer.window.windows == 1:
        total -= _lone_window(layer)
    return total - packed_registers(layer, family)


def _lone_window(layer: WindowedConfig) -> int:
    """The row's position, which no second window reads; where a frame starts, a window does."""
    delay = step_cycles(layer)
    started = len(layer.window.passes) > 1 and layer.leaving[0]
    return layer.window.index_bits + started * delay


def _memories(placed: Sequence[Placed], family: Blocks) -> int:
    """Words that became flip-flops, and the buffers that became memory blocks."""
    total = 0
    for one in placed:
        memory = one.memory
        if memory.written and one.ram is None:
            copies = 1 if memory.role == "bank" else memory.count
            total += memory.depth * memory.width * copies
        elif one.brams and (memory.apart or (memory.role == "window" and family.reads_old)):
            total -= memory.width * memory.count  # the block's own output register
        elif memory.role == "window" and one.brams:
            # The block's write comes a cycle late, beside a copy of the word for the reader.
            total += clog2(memory.depth) + 2 * memory.width + 1
            total += (1 - memory.width) * memory.count
        elif memory.role == "checker" and one.brams:
            total -= memory.width * memory.count
    return total


def _window(layer: WindowedConfig) -> int:
    """Counters that never move, read addresses and padding marks that are equal or constant."""
    window = layer.window
    still = [*window.out_size, window.steps, len(window.passes)].count(1)
    copies = _copies(layer)
    total = -copies * still
    tables = [
        np.array([window.offset(step[port]) % window.depth for step in window.taps])
        for port in range(window.ports)
    ]
    for port, table in enumerate(tables):
        equal = max((_equal_low_bits(table, other) for other in tables[:port]), default=0)
        total -= equal * bool(copies)
    if window.padded:
        marks = {tuple(step[port][:2] for step in window.taps) for port in range(window.ports)}
        inside = [all(_always_inside(layer, *tap) for tap in mark) for mark in marks]
        total -= copies * (window.ports - len(marks) + sum(inside))
    return total


def _copies(layer: LayerConfig) -> int:
    """Registers that go with one of control: its parity too; a kept replica stays as it is."""
    return {"none": 1, "parity": 2, "tmr": 0}[layer.control]


def _join(layer: JoinConfig) -> int:
    """Marks that nothing reads, counters that never move, constant and equal bits of products."""
    copies = _copies(layer)
    total = 0
    if not layer.guarded:  # one operand tells where a frame ends; in Pad the counters do
        total += 1 if isinstance(layer, PadConfig) else len(layer.operands) - 1
    if isinstance(layer, PadConfig):
        total += copies * [layer.height, layer.width, layer.words_per_pixel].count(1)
    if isinstance(layer, AddConfig):
        for scale in filter(None, layer.multipliers):  # 2^k: k zeros, and the sign twice
            power = not scale & (scale - 1)
            total += layer.out_lanes * ((scale & -scale).bit_length() - 1 + power)
    return total


def _equal_low_bits(a: IntArray, b: IntArray) -> int:
    differ = int(np.bitwise_or.reduce(a ^ b))
    return (differ & -differ).bit_length() - 1 if differ else 64


def _always_inside(layer: WindowedConfig, row: int, column: int) -> bool:
    """Whether no window takes this element of the kernel from the padding."""
    window = layer.window
    for axis, index, size in ((0, row, window.height), (1, column, window.width)):
        at = index * window.dilation[axis] - window.padding[axis]
        if at < 0 or at + (window.out_size[axis] - 1) * window.stride[axis] >= size:
            return False
    return True


def _unflagged(layer: WindowedConfig) -> int:
    """Registers of the error mark that travels with a frame."""
    if layer.control == "tmr":
        return 0
    delay = step_cycles(layer)
    late = 0 if isinstance(layer, ArgMaxConfig) else getattr(layer, "requantize_cycles", 0)
    return 2 * (1 + layer.checked) + delay + late + (layer.beats > 1)


def _lanes(layer: LinearConfig, placed: Sequence[Placed]) -> int:
    lanes = single_lanes(layer)
    if layer.multiplier == "shift":
        return 0
    if layer.constant_weights:
        return _unrolled(layer)
    total = 0
    if layer.multiplies and layer.multiplier == "lut":
        total -= 0 if layer.act_signed else lanes
    elif layer.multiplies and not layer.act_signed:
        # A product of unsigned and signed needs no bit more.
        bits = layer.product_bits - 1
        before, after = (
            n * layer.simd + sum(tree_sums([n] * layer.simd, layer.acc_bits, ADDS_PER_RANK))
            for n in (layer.product_bits, bits)
        )
        total -= (before - after) * lanes
    weights = next(one for one in placed if one.memory.role == "weight")
    whole = weight_columns(layer)
    if weights.brams:  # the block holds the first of the two ranks
        return total - whole
    ranks = 2 if layer.block_weights else 1
    return total - ranks * (whole - distinct_weights(layer))


def _dropped(layer: LinearConfig) -> int:
    """Bits of waiting results that lie below the rounding and that no checksum reads."""
    kind = layer.requantize
    if not isinstance(kind, Requantize) or not multiplies_by_one(kind):
        return 0
    if layer.beats == 1 or layer.modulus:
        return 0
    return layer.pe * max(0, int(kind.shift[0]) - 1)


@functools.lru_cache(maxsize=64)
def distinct_weights(layer: LinearConfig) -> int:
    """Bit columns of the lanes' tables that differ; replicas are not compared with each other."""
    pe, simd = layer.pe, layer.simd
    rows = layer.weight_codes.transpose(0, 2, 1, 3).reshape(-1, pe * simd)
    bits = bits_of(rows, layer.weight_bits).reshape(len(rows), pe, -1)
    paired = {lane for pair in layer.pairs for lane in pair}
    plain = [lane for lane in range(pe) if lane not in layer.replicated and lane not in paired]
    columns = [bits[:, plain].reshape(len(bits), -1)]
    for pair in layer.pairs:
        low, high = codes(layer, pair)
        columns += [bits_of(low, layer.weight_bits), bits_of(high, high_bits(layer))]
    if layer.weight_code != "none":
        columns += _codes(layer, [bits[:, lane] for lane in plain])
        columns += _codes(layer, [_pair_words(layer, pair) for pair in layer.pairs])
    total = distinct(np.concatenate(columns, axis=1))
    for lane in layer.replicated:
        total += 3 * distinct(bits[:, lane])
    return total


def _pair_words(layer: LinearConfig, pair: tuple[int, int]) -> IntArray:
    """Bits (words, bits of a word) of what the lanes of a pair read."""
    low, high = (
        bits_of(values, bits).reshape(len(values), layer.simd, bits)
        for values, bits in zip(
            codes(layer, pair), (layer.weight_bits, high_bits(layer)), strict=True
        )
    )
    return np.concatenate((low, high), axis=2).reshape(len(low), -1)


def _codes(layer: LinearConfig, lanes: list[IntArray]) -> list[IntArray]:
    """Columns of the codes of weight words, given as bits (words, bits of a word)."""
    found = []
    for words in lanes:
        width = words.shape[1]
        values = [sum(int(bit) << i for i, bit in enumerate(word)) for word in words]
        made = [encode_int(layer.weight_code, value, width) for value in values]
        size = code_bits(layer.weight_code, width)
        found.append(np.array([[code >> i & 1 for i in range(size)] for code in made]))
    return found


def _unrolled(layer: LinearConfig) -> int:
    """Products by constants: as wide as their values, without the zeros of powers of two."""
    low, high = 0, (1 << layer.act_bits) - 1
    if layer.act_bipolar:
        low, high = -1, 1
    elif layer.act_signed:
        low, high = -(1 << (layer.act_bits - 1)), (1 << (layer.act_bits - 1)) - 1
    whole = tree_sums([layer.term_bits] * layer.simd, layer.acc_bits, ADDS_PER_RANK)
    total, seen = 0, set()
    for lane, row in enumerate(layer.weight.reshape(layer.pe, -1).tolist()):
        copies = 3 if lane in layer.replicated else 1
        terms = [vector(*sorted((value * low, value * high)))[0] for value in row]
        widths = [min(bits, layer.product_bits) for bits in terms]
        sums = tree_sums(terms, layer.acc_bits, ADDS_PER_RANK)
        total += copies * (sum(sums) - sum(whole) - layer.product_bits * layer.simd)
        places = layer.lane_elements(lane)
        for i, value, width in zip(places, row, widths, strict=True):
            if value and (copies > 1 or (i, value) not in seen):
                total += copies * (width - (value & -value).bit_length() + 1)
            if copies == 1:
                seen.add((i, value))
    return total


def _requantizers(units: tuple[Requantizer, ...], placed: Sequence[Placed]) -> int:
    if not units:
        return 0
    total = -sum(sum(unit.columns) for unit in units)
    in_blocks = any(one.brams for one in placed if one.memory.role == "column")
    if not in_blocks:
        total += distinct_columns(units)
    for unit in units:
        total += min(0, _total_bits(unit) - unit.total)
        if len(unit.products) == 1:  # nothing carries out of the bits below the rounding
            total -= min(unit.products[0], max(0, unit.shift - 1))
        total += vector(*unit.limits)[0] - unit.q
    return total


def _total_bits(unit: Requantizer) -> int:
    """Bits behind the shift that carry information."""
    if not unit.factors:
        return max(1, unit.acc_bits + 1 - unit.shift)
    multiplier = unit.factors[0][1][0]
    return max(1, unit.acc_bits + multiplier + len(unit.factors) - unit.shift)
