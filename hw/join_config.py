"""Layers that join or extend streams word by word, in numbers: Add, Concat and Pad. No Amaranth."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from ..quant.ir import IntArray, Requantize
from .config import CLAIM_CYCLES, LayerConfig, requantize_cycles

__all__ = ["AddConfig", "ConcatConfig", "JoinConfig", "MergeConfig", "Operand", "PadConfig"]


@dataclass(frozen=True, kw_only=True)
class Operand:
    """A stream that a join reads: `words` of a frame, each of `lanes` elements of `bits` bits.

    They wait in a FIFO of `depth`, which is exact: it takes that many words and no more.
    `hw.skips` finds the least one that costs no throughput.
    """

    words: int
    lanes: int
    bits: int
    signed: bool
    zero_point: int = 0
    bipolar: bool = False
    depth: int = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class JoinConfig(LayerConfig):
    """One word out at each start, made of a word of each operand that the schedule names.

    Words of a frame are counted as (row, column, word of the pixel); `height`, `width` and
    `words_per_pixel` are those of the output.
    """

    operands: tuple[Operand, ...]
    height: int
    width: int
    words_per_pixel: int

    @property
    def in_lanes(self) -> tuple[int, ...]:
        """Elements of a word of each operand."""
        return tuple(operand.lanes for operand in self.operands)

    @property
    def element_bits(self) -> tuple[int, ...]:
        """Bits of an element of each operand."""
        return tuple(operand.bits for operand in self.operands)

    @property
    def in_words(self) -> tuple[int, ...]:
        """Words of a frame of each operand."""
        return tuple(operand.words for operand in self.operands)

    @property
    def groups_per_frame(self) -> int:
        """Words of a frame."""
        return self.height * self.width * self.words_per_pixel

    @property
    def steps(self) -> int:
        """A word a cycle."""
        return 1

    @property
    def cycles_per_frame(self) -> int:
        """A word a cycle."""
        return max(self.groups_per_frame, CLAIM_CYCLES)

    @property
    def function_cycles(self) -> int:
        """Cycles from a word in the element registers to its result."""
        raise AssertionError("defined by each layer kind")

    @property
    def pipeline_cycles(self) -> int:
        """Element registers, function, FIFO write."""
        return 2 + self.function_cycles

    @functools.cached_property
    def reads(self) -> tuple[IntArray, ...]:
        """For each operand the output words, counted in a frame, at which it is read."""
        raise AssertionError("defined by each layer kind")


@dataclass(frozen=True, kw_only=True, eq=False)
class AddConfig(JoinConfig):
    """q = clamp((((a - zp_a) m_a + (b - zp_b) m_b + 2^(s-1)) >> s) + zp), one rounding.

    `requantize` has multiplier 1: it rounds, shifts and clamps the sum of `acc_bits` bits.
    """

    multipliers: tuple[int, int]
    requantize: Requantize
    acc_bits: int

    @property
    def function_cycles(self) -> int:
        """Products, then the requantiser."""
        return 1 + requantize_cycles(self.requantize)

    @functools.cached_property
    def reads(self) -> tuple[IntArray, ...]:
        """Both operands at every word."""
        every = np.arange(self.groups_per_frame)
        return every, every


@dataclass(frozen=True, kw_only=True, eq=False)
class ConcatConfig(JoinConfig):
    """Pixel by pixel the words of each operand in turn, through its own requantiser or none."""

    requantize: tuple[Requantize | None, ...]

    @property
    def function_cycles(self) -> int:
        """The slowest requantiser; the other operands wait for it."""
        return max(requantize_cycles(kind) for kind in self.requantize)

    @functools.cached_property
    def bounds(self) -> tuple[int, ...]:
        """Word of a pixel at which each operand starts, and the words of a pixel at the end."""
        pixels = self.height * self.width
        words = [operand.words // pixels for operand in self.operands]
        return tuple(int(n) for n in np.concatenate(([0], np.cumsum(words))))

    @functools.cached_property
    def reads(self) -> tuple[IntArray, ...]:
        """A run of words of every pixel for each operand."""
        words = np.arange(self.groups_per_frame).reshape(-1, self.words_per_pixel)
        pairs = zip(self.bounds, self.bounds[1:], strict=False)
        return tuple(words[:, low:high].ravel() for low, high in pairs)


@dataclass(frozen=True, kw_only=True, eq=False)
class MergeConfig(JoinConfig):
    """A Concat of whole pixels: lane i is lane `picks[i][1]` of operand `picks[i][0]`, rescaled."""

    requantize: tuple[Requantize | None, ...]
    picks: tuple[tuple[int, int], ...]

    @property
    def function_cycles(self) -> int:
        """The slowest requantiser; the other operands wait for it."""
        return max(requantize_cycles(kind) for kind in self.requantize)

    @functools.cached_property
    def reads(self) -> tuple[IntArray, ...]:
        """Every operand at every word."""
        return (np.arange(self.groups_per_frame),) * len(self.operands)

    @property
    def pixels(self) -> int:
        """Pixels of a word."""
        return self.out_lanes // self.out_shape[-1]


@dataclass(frozen=True, kw_only=True, eq=False)
class PadConfig(JoinConfig):
    """The image inside a border of `value`: `inside` holds (first, end) of rows, columns, words.

    Where whole pixels pass, `picks` is each lane's element of an operand's word: below 0 of the
    word before it in the row (-1 is its last element), None is the border's value.
    """

    inside: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    value: int
    picks: tuple[int | None, ...]

    @property
    def delayed(self) -> int:
        """Elements of the word before that a word takes."""
        return -min((pick for pick in self.picks if pick is not None), default=0)

    @property
    def function_cycles(self) -> int:
        """Nothing is computed."""
        return 0

    @functools.cached_property
    def reads(self) -> tuple[IntArray, ...]:
        """The words inside the border."""
        shape = (self.height, self.width, self.words_per_pixel)
        region = tuple(slice(low, high) for low, high in self.inside)
        return (np.arange(self.groups_per_frame).reshape(shape)[region].ravel(),)
