"""Flip-flops after synthesis: what Yosys removes from the registers, and what it adds.

Removed are registers that end up inside a memory block, bits that are constant or repeat another
bit, and equal columns of tables. Added is the logic that makes a memory block answer as the
circuit's memory does. What is not modelled shows as the error that docs/estimate.md states.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...hw.config import ADDS_PER_RANK, ArgMaxConfig, LayerConfig, LinearConfig, PoolConfig, clog2
from ...quant.ir import IntArray
from .blocks import Placed
from .ffs import REDUCE_CYCLES
from .requantize import Requantizer, requantizers
from .shapes import tree_sums, vector

__all__ = ["added", "distinct_columns", "distinct_weights"]


def added(layer: LayerConfig, placed: Sequence[Placed], *, first: bool) -> int:
    """Flip-flops of the mapped netlist less the register bits of the Verilog, mostly negative.

    `first`: nothing flags frames before this layer.
    """
    total = _memories(layer, placed) + _window(layer)
    if first:
        total -= _unflagged(layer)
    if isinstance(layer, LinearConfig):
        total += _lanes(layer, placed)
        if layer.modulus:  # its step marks repeat the sequencer's
            total -= layer.lane_cycles - 1
    if isinstance(layer, LinearConfig | PoolConfig):
        total += _requantizers(requantizers(layer), placed)
    return total


def _memories(layer: LayerConfig, placed: Sequence[Placed]) -> int:
    """Words that became flip-flops, and the buffers that became memory blocks."""
    total = 0
    for one in placed:
        memory = one.memory
        if memory.written and one.ram is None:
            total += memory.depth * memory.width * memory.count
        elif memory.role == "window" and one.brams:
            # The block's write comes a cycle late, beside a copy of the word for the reader.
            total += clog2(memory.depth) + 2 * memory.width + 1
            total += (1 - memory.width) * memory.count
    return total


def _window(layer: LayerConfig) -> int:
    """Counters that never move, read addresses and padding marks that are equal or constant."""
    window = layer.window
    rows, columns = window.out_size
    total = -(rows == 1) - (columns == 1)
    if window.steps == 1:
        total -= 1
    if len(window.passes) == 1:
        total -= 1
    tables = [
        np.array([window.offset(step[port]) % window.depth for step in window.taps])
        for port in range(window.ports)
    ]
    for port, table in enumerate(tables):
        total -= max((_equal_low_bits(table, other) for other in tables[:port]), default=0)
    if window.padded:
        marks = {tuple(step[port][:2] for step in window.taps) for port in range(window.ports)}
        inside = [all(_always_inside(layer, *tap) for tap in mark) for mark in marks]
        total -= window.ports - len(marks) + sum(inside)
    return total


def _equal_low_bits(a: IntArray, b: IntArray) -> int:
    differ = int(np.bitwise_or.reduce(a ^ b))
    return (differ & -differ).bit_length() - 1 if differ else 64


def _always_inside(layer: LayerConfig, row: int, column: int) -> bool:
    """Whether no window takes this element of the kernel from the padding."""
    window = layer.window
    for axis, index, size in ((0, row, window.height), (1, column, window.width)):
        at = index * window.dilation[axis] - window.padding[axis]
        if at < 0 or at + (window.out_size[axis] - 1) * window.stride[axis] >= size:
            return False
    return True


def _unflagged(layer: LayerConfig) -> int:
    """Registers of the error mark that travels with a frame."""
    delay = layer.lane_cycles if isinstance(layer, LinearConfig) else REDUCE_CYCLES
    late = 0 if isinstance(layer, ArgMaxConfig) else getattr(layer, "requantize_cycles", 0)
    return 2 + delay + late + (layer.beats > 1)


def _lanes(layer: LinearConfig, placed: Sequence[Placed]) -> int:
    lanes = layer.pe + 2 * len(layer.replicated)
    if layer.constant_weights:
        return _unrolled(layer)
    total = 0
    if not layer.act_signed:  # a product of unsigned and signed needs no bit more
        bits = layer.product_bits - 1
        before, after = (
            n * layer.simd + sum(tree_sums(layer.simd, n, layer.acc_bits, ADDS_PER_RANK))
            for n in (layer.product_bits, bits)
        )
        total -= (before - after) * lanes
    weights = next(one for one in placed if one.memory.role == "weight")
    whole = layer.weight_bits * layer.simd * lanes
    if weights.brams:  # the block holds the first of the two ranks
        return total - whole
    ranks = 2 if layer.block_weights else 1
    return total - ranks * (whole - distinct_weights(layer))


def distinct_weights(layer: LinearConfig) -> int:
    """Bit columns of the lanes' tables that differ; replicas are not compared with each other."""
    _, pe, _, simd = layer.weight.shape
    rows = layer.weight.transpose(0, 2, 1, 3).reshape(-1, pe, simd)
    bits = (rows[..., None] >> np.arange(layer.weight_bits)) & 1  # (words, pe, simd, bits)
    plain = [lane for lane in range(pe) if lane not in layer.replicated]
    total = _distinct(bits[:, plain].reshape(len(bits), -1))
    for lane in layer.replicated:
        total += 3 * _distinct(bits[:, lane].reshape(len(bits), -1))
    return total


def _distinct(columns: IntArray) -> int:
    """Columns of a 0/1 matrix (words, columns) that are neither constant nor equal to another."""
    if not columns.size:
        return 0
    packed = np.packbits(columns.astype(np.uint8), axis=0).T.copy()
    found = {row.tobytes() for row in packed}
    ones = np.packbits(np.ones(len(columns), dtype=np.uint8)).tobytes()
    return len(found - {ones, bytes(len(ones))})


def _unrolled(layer: LinearConfig) -> int:
    """Products by constants: as wide as their values, without the zeros of powers of two."""
    low, high = (-(1 << (layer.act_bits - 1)), (1 << (layer.act_bits - 1)) - 1)
    if not layer.act_signed:
        low, high = 0, (1 << layer.act_bits) - 1
    total, seen = 0, set()
    for lane, row in enumerate(layer.weight.reshape(layer.pe, -1).tolist()):
        copies = 3 if lane in layer.replicated else 1
        for i, value in enumerate(row):
            ends = sorted((value * low, value * high))
            bits = vector(*ends)[0] - max(0, (value & -value).bit_length() - 1)
            if value == 0 or (copies == 1 and (i, value) in seen):
                bits = 0
            seen |= {(i, value)} if copies == 1 else set()
            total += copies * (bits - layer.product_bits)
    return total


def _requantizers(units: Sequence[Requantizer], placed: Sequence[Placed]) -> int:
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


def distinct_columns(units: Sequence[Requantizer]) -> int:
    """Bit columns of the lanes' tables that differ."""
    columns = [
        (table >> np.arange(bits)[:, None]) & 1
        for unit in units
        for table, bits in zip(unit.tables, unit.columns, strict=True)
    ]
    return _distinct(np.concatenate(columns).T) if columns else 0


def _total_bits(unit: Requantizer) -> int:
    """Bits behind the shift that carry information."""
    if not unit.factors:
        return max(1, unit.acc_bits + 1 - unit.shift)
    multiplier = unit.factors[0][1][0]
    return max(1, unit.acc_bits + multiplier + len(unit.factors) - unit.shift)
