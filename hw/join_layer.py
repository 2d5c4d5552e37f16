"""Add, Concat, Pad and their folding -> the configurations of their circuits. No Amaranth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..quant.errors import InputError
from ..quant.ir import Add, Concat, Pad, Requantize, TensorType
from .fold import Fold
from .join_config import AddConfig, ConcatConfig, JoinConfig, MergeConfig, Operand, PadConfig
from .pixels import check_pixels
from .window_config import Size

__all__ = ["join_layer"]


def join_layer(
    node: Add | Concat | Pad,
    channels: tuple[int, ...],
    shape: tuple[int, ...],
    kinds: tuple[TensorType, ...],
    out: TensorType,
    acc_bits: int,
    fold: Fold,
) -> JoinConfig:
    """The configuration of a node whose operands have `channels`; `shape` is the result's.

    `fold.pe` channels pass in a cycle, or `fold.pixels` whole pixels; `acc_bits` hold the sum of
    Add. Raises InputError naming the layer when `pe` divides not every operand's channels (and what
    Pad inserts) and is not that of whole pixels.
    """
    counts = [*channels, *(node.channels if isinstance(node, Pad) else ())]
    common, total = math.gcd(*counts), shape[-1]
    whole = fold.pe == total and (fold.pixels != 1 or common % fold.pe != 0)
    if fold.pe < 1 or (common % fold.pe and not whole):
        raise InputError(
            f"layer {node.name}: pe = {fold.pe} does not divide {', '.join(map(str, counts))} "
            f"(channels that pass); choose one of {sorted({*_divisors(common), total})}"
        )
    image: Size = (shape[0], shape[1], total) if len(shape) == 3 else (1, 1, total)
    inner = _inner(node, image) if isinstance(node, Pad) else image
    check_pixels(node, inner, image, fold, {"pe": total})
    operands = tuple(
        Operand(
            words=inner[0] * inner[1] * count // lanes,
            lanes=lanes,
            bits=kind.bits,
            signed=kind.signed,
            zero_point=kind.zero_point,
            bipolar=kind.bipolar,
        )
        for count, kind in zip(channels, kinds, strict=True)
        for lanes in [count * fold.pixels if whole else fold.pe]
    )
    # Pixels side by side may go beyond a row where only their order matters.
    rows = image[0] if isinstance(node, Pad) else 1
    fields: dict[str, Any] = {
        "name": node.name,
        "op": type(node).__name__,
        "out_shape": shape,
        "out_lanes": fold.pe * fold.pixels,
        "out_bits": out.bits,
        "out_signed": out.signed,
        "operands": operands,
        "height": rows if fold.pixels > 1 else image[0],
        "width": image[0] * image[1] // rows // fold.pixels if fold.pixels > 1 else image[1],
        "words_per_pixel": total // fold.pe,
    }
    match node:
        case Add():
            return AddConfig(**fields, **_sum(node, acc_bits))
        case Concat() if whole:
            picks = _merged(channels, fold.pixels)
            return MergeConfig(**fields, requantize=node.requantize, picks=picks)
        case Concat():
            return ConcatConfig(**fields, requantize=node.requantize)
    value = kinds[0].zero_point
    return PadConfig(**fields, **_border(node, inner, fold, whole=whole), value=value)


def _merged(channels: tuple[int, ...], pixels: int) -> tuple[tuple[int, int], ...]:
    """Operand and lane of each lane of whole pixels."""
    return tuple(
        (k, pixel * count + c)
        for pixel in range(pixels)
        for k, count in enumerate(channels)
        for c in range(count)
    )


def _border(node: Pad, inner: Size, fold: Fold, *, whole: bool) -> dict[str, Any]:
    """Where words of the operand lie inside the border, and what each lane takes of them."""
    height, width, channels = inner
    top, left, _, _ = node.padding
    front, back = node.channels
    if not whole:
        words = (front // fold.pe, (front + channels) // fold.pe)
        inside = ((top, top + height), (left, left + width), words)
        return {"inside": inside, "picks": tuple(range(fold.pe))}
    first, late = divmod(left, fold.pixels)
    one = [*[None] * front, *range(channels), *[None] * back]
    picks = tuple(
        None if c is None else (pixel - late) * channels + c
        for pixel in range(fold.pixels)
        for c in one
    )
    columns = (first, first + width // fold.pixels)
    return {"inside": ((top, top + height), columns, (0, 1)), "picks": picks}


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def _inner(node: Pad, image: Size) -> Size:
    """The operand of a Pad."""
    top, left, bottom, right = node.padding
    return image[0] - top - bottom, image[1] - left - right, image[2] - sum(node.channels)


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
