"""Tables as logic: each bit of the entry is one column, a function of the index."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from math import ceil

import numpy as np

from ...quant.ir import IntArray

__all__ = ["bits_of", "changing", "column_luts", "distinct", "rom_luts"]

LUT_INPUTS = 4


def bits_of(values: IntArray, bits: int) -> IntArray:
    """Columns (words, elements * bits) of entries (words, elements); two's complement."""
    columns: IntArray = (values[..., None] >> np.arange(bits)) & 1
    return columns.reshape(len(values), -1)


def distinct(columns: IntArray) -> int:
    """Columns of a 0/1 matrix (words, columns) that are neither constant nor equal to another."""
    if len(columns) < 2 or not columns.size:
        return 0
    moving = columns[:, (columns != columns[0]).any(axis=0)]
    # Equal columns have equal sums of random 64-bit numbers, others hardly ever do.
    return len(np.unique(_noise(len(columns)) @ moving))


@functools.lru_cache(maxsize=256)
def _noise(words: int) -> IntArray:
    limits = np.iinfo(np.int64)
    return np.random.default_rng(words).integers(limits.min, limits.max, words)


def changing(columns: IntArray) -> IntArray:
    """1 for each column of a 0/1 matrix (words, columns) that is not constant."""
    moving: IntArray = (columns != columns[0]).any(axis=0).astype(np.int64)
    return moving


def rom_luts(words: int, columns: int, inputs: int = LUT_INPUTS) -> float:
    """LUTs of `columns` functions without structure of an index over `words`.

    Wide multiplexers between LUTs are free.
    """
    return columns * float(ceil(words / (1 << inputs)) if words > 2 else 0)


@functools.lru_cache(maxsize=4096)
def column_luts(values: Sequence[int], inputs: int = LUT_INPUTS) -> float:
    """LUTs of a table with structure: a column costs by the index bits it depends on.

    >>> column_luts(tuple(range(64))), column_luts((0, 1, 1, 0))
    (0.0, 1.0)
    """
    bits = max(value.bit_length() for value in values)
    index = max(1, (len(values) - 1).bit_length())
    padded = np.array([*values, *[values[-1]] * ((1 << index) - len(values))], dtype=np.int64)
    total = 0.0
    for bit in range(bits):
        column = ((padded >> bit) & 1).reshape((2,) * index)
        support = sum(bool((column.take(0, a) != column.take(1, a)).any()) for a in range(index))
        total += 0 if support < 2 else 2.0 ** max(0, support - inputs)
    return total
