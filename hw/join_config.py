"""Layers that join or extend streams word by word, in numbers: Add, Concat and Pad. No Amaranth."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..quant.errors import InputError
from ..quant.ir import Add, Concat, IntArray, Pad, Requantize, TensorType
from .config import CLAIM_CYCLES, LayerConfig, requantize_cycles

__all__ = ["AddConfig", "ConcatConfig", "JoinConfig", "Operand", "PadConfig", "join"]


@dataclass(frozen=True, kw_only=True)
class Operand:
    """A stream that a join reads: `words` of a frame, elements of `bits` bits, a FIFO of `depth`.

    `depth` is exact: the FIFO takes that many words and no more. `hw.skips` finds the least one
    that costs no throughput.
    """

    words: int
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
    def in_lanes(self) -> int:
        """Words pass through at one width."""
        return self.out_lanes

    @property
    def operand_bits(self) -> tuple[int, ...]:
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
class PadConfig(JoinConfig):
    """The image inside a border of `value`: `inside` holds (first, end) of rows, columns, words."""

    inside: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    value: int

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


def join(
    node: Add | Concat | Pad,
    channels: tuple[int, ...],
    shape: tuple[int, ...],
    kinds: tuple[TensorType, ...],
    out: TensorType,
    acc_bits: int,
    pe: int,
) -> JoinConfig:
    """The configuration of a node whose operands have `channels`; `shape` is the result's.

    `pe` channels pass in a cycle, `acc_bits` hold the sum of Add. Raises InputError naming the
    layer when `pe` divides not every operand's channels (and what Pad inserts).
    """
    counts = [*channels, *(node.channels if isinstance(node, Pad) else ())]
    common = math.gcd(*counts)
    if pe < 1 or common % pe:
        raise InputError(
            f"layer {node.name}: pe = {pe} does not divide {', '.join(map(str, counts))} "
            f"(channels that pass); choose one of {_divisors(common)}"
        )
    height, width = shape[:2] if len(shape) == 3 else (1, 1)
    total = shape[-1] // pe
    image = (height, width) if not isinstance(node, Pad) else _inner(node, height, width)
    operands = tuple(
        Operand(
            words=image[0] * image[1] * count // pe,
            bits=kind.bits,
            signed=kind.signed,
            zero_point=kind.zero_point,
            bipolar=kind.bipolar,
        )
        for count, kind in zip(channels, kinds, strict=True)
    )
    fields: dict[str, Any] = {
        "name": node.name,
        "op": type(node).__name__,
        "out_shape": shape,
        "out_lanes": pe,
        "out_bits": out.bits,
        "out_signed": out.signed,
        "operands": operands,
        "height": height,
        "width": width,
        "words_per_pixel": total,
    }
    match node:
        case Add():
            return AddConfig(**fields, **_sum(node, acc_bits))
        case Concat():
            return ConcatConfig(**fields, requantize=node.requantize)
    top, left, _, _ = node.padding
    front = node.channels[0] // pe
    inside = (
        (top, top + image[0]), (left, left + image[1]), (front, front + channels[0] // pe),
    )  # fmt: skip
    return PadConfig(**fields, inside=inside, value=kinds[0].zero_point)


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def _inner(node: Pad, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the operand of a Pad."""
    top, left, bottom, right = node.padding
    return height - top - bottom, width - left - right


def _sum(node: Add, acc_bits: int) -> dict[str, Any]:
    """Multipliers and requantiser of an Add, without the powers of two that they share.

    (2^k A + 2^(s-1)) >> s = (A + 2^(s-k-1)) >> (s - k) for k < s.
    """
    shared = max(0, min(node.shift - 1, *(_twos(m) for m in node.multipliers)))
    kind = Requantize(
        np.array([1]), np.array([node.shift - shared]), node.out, lo=node.lo, hi=node.hi
    )
    small = tuple(m >> shared for m in node.multipliers)
    return {"multipliers": small, "requantize": kind, "acc_bits": max(2, acc_bits - shared)}


def _twos(value: int) -> int:
    """Powers of two in a multiplier; 0 has as many as any."""
    return (value & -value).bit_length() - 1 if value else 63
