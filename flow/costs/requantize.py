"""What the requantisers of a layer are made of: tables, products, sums, in bits."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...hw.config import multiplies_by_one
from ...hw.join_config import AddConfig, ConcatConfig, JoinConfig, MergeConfig
from ...hw.linear_config import LinearConfig
from ...hw.reduce_config import PoolConfig
from ...hw.shift_config import ShiftConfig
from ...quant.ir import IntArray, Requantize
from .columns import bits_of, distinct
from .shapes import Shape, add, const, multiply, shift_left, vector

__all__ = ["SPLIT_BITS", "Requantizer", "distinct_columns", "requantizers"]

SPLIT_BITS = 17
"""Low bits of a wide accumulator that go to a multiplier of their own, as in `hw.requantize`."""


@dataclass(frozen=True, slots=True, eq=False)
class Requantizer:
    """One lane's requantiser.

    `columns` are the widths of its registered tables and `tables` their entries, `factors` the
    operands of its products; `products`, `total`, `q` and `bound` (0: none) are register widths,
    `limits` the clamp, `constant` the multiplier where it is one number.
    """

    columns: tuple[int, ...]
    factors: tuple[tuple[Shape, Shape], ...]
    products: tuple[int, ...]
    total: int
    q: int
    bound: int
    cycles: int
    shift: int
    out_bits: int
    acc_bits: int
    tables: tuple[IntArray, ...]
    limits: tuple[int, int]
    constant: int | None

    @property
    def entries(self) -> int:
        """Words of a table; all tables of a lane have as many."""
        return len(self.tables[0]) if self.tables else 0


def requantizers(layer: LinearConfig | PoolConfig | JoinConfig) -> tuple[Requantizer, ...]:
    """One for each output lane; none where nothing, thresholds or a clamp do it.

    A Concat has one for each lane of each operand that it rescales.
    """
    match layer:
        case AddConfig():
            return _units(layer.requantize, (0,), layer.out_lanes, layer.acc_bits)
        case ConcatConfig() | MergeConfig():
            return _concat(layer)
        case JoinConfig():
            return ()
    clamps = isinstance(layer, ShiftConfig) and layer.clamps
    if clamps or not isinstance(layer.requantize, Requantize):
        return ()
    lanes = layer.out_lanes // layer.pixels
    found: list[Requantizer] = []
    for pixel in range(layer.pixels):
        table = tuple(layer.channels(pixel * lanes))
        found += _units(layer.requantize, table, lanes, layer.acc_bits)
    return tuple(found)


def _concat(layer: ConcatConfig | MergeConfig) -> tuple[Requantizer, ...]:
    found: list[Requantizer] = []
    for k, (operand, kind) in enumerate(zip(layer.operands, layer.requantize, strict=True)):
        if kind is not None:
            value = (2, True) if operand.bipolar else (operand.bits, operand.signed)
            bits = add(value, const(operand.zero_point))[0]
            if isinstance(layer, MergeConfig):
                pixels, lanes = layer.pixels, operand.lanes // layer.pixels
                found += _units(kind, (0,), lanes, bits) * pixels
            else:
                words = range(layer.bounds[k + 1] - layer.bounds[k])
                table = tuple(word * layer.out_lanes for word in words)
                found += _units(kind, table, layer.out_lanes, bits)
    return tuple(found)


@functools.lru_cache(maxsize=1024)
def _units(
    kind: Requantize, table: tuple[int, ...], lanes: int, acc_bits: int
) -> tuple[Requantizer, ...]:
    """Requantize compares by identity: a table is looked at once for each folding."""
    return tuple(_unit(kind, [t + i for t in table], acc_bits) for i in range(lanes))


def _unit(kind: Requantize, channels: Sequence[int], acc_bits: int) -> Requantizer:
    shift = int(kind.shift.max())
    rounding = const(1 << (shift - 1) if shift else 0)
    factors: list[tuple[Shape, Shape]] = []
    acc: Shape = (acc_bits, True)
    tables: list[IntArray] = []
    constant: int | None = None
    if multiplies_by_one(kind):
        total, cycles = add(acc, rounding), 2
    else:
        factor = _column(kind.multiplier << (shift - kind.shift), channels, tables)
        if not tables:
            constant = int((kind.multiplier << (shift - kind.shift))[channels[0] % len(kind.shift)])
        factors = [(acc, factor)]
        if acc_bits > SPLIT_BITS + 1:
            low, high = (SPLIT_BITS, False), (acc_bits - SPLIT_BITS, True)
            factors = [(low, factor), (high, factor)]
        terms = [shift_left(multiply(a, b), i * SPLIT_BITS) for i, (a, b) in enumerate(factors)]
        total, cycles = terms[0], 3
        for term in terms[1:]:
            total = add(total, term)
        total = add(total, rounding)
    bound = 0
    if kind.bound is not None:
        bound = _column(kind.bound, channels, tables)[0]
    return Requantizer(
        columns=tuple(vector(int(t.min()), int(t.max()))[0] for t in tables),
        factors=tuple(factors),
        products=tuple(multiply(a, b)[0] for a, b in factors),
        total=total[0] - shift,
        q=kind.out.bits + 1,
        bound=bound,
        cycles=cycles,
        shift=shift,
        out_bits=kind.out.bits,
        acc_bits=acc_bits,
        tables=tuple(tables),
        limits=kind.limits,
        constant=constant,
    )


def _column(values: IntArray, channels: Sequence[int], tables: list[IntArray]) -> Shape:
    """Shape of a lane's entry; what is no constant is added to `tables`."""
    column = values if len(values) == 1 else values[list(channels)]
    low, high = int(column.min()), int(column.max())
    if low == high:
        return const(low)
    tables.append(column)
    return vector(low, high)


@functools.lru_cache(maxsize=64)
def distinct_columns(units: tuple[Requantizer, ...]) -> int:
    """Bit columns of the lanes' tables that differ; the operands of a Concat have other lengths."""
    columns: dict[int, list[IntArray]] = defaultdict(list)
    for unit in units:
        for table, bits in zip(unit.tables, unit.columns, strict=True):
            columns[len(table)].append(bits_of(table[:, None], bits))
    return sum(distinct(np.concatenate(alike, axis=1)) for alike in columns.values())
