"""Words and what a fault does to them: two's complement of a given width, in NumPy or torch.

`xp` is the module `numpy` or `torch`; arrays are int64 and stay on their device.
"""

from __future__ import annotations

from typing import Any

from ..ir import TensorType
from .records import Op

__all__ = ["changed", "limits", "wrap"]


def wrap(word: Any, width: Any, signed: bool) -> Any:
    """The lowest `width` bits as a number."""
    if not signed:
        return word & ((1 << width) - 1)
    half = 1 << (width - 1)
    return ((word + half) & (2 * half - 1)) - half


def limits(kind: TensorType, width: Any) -> tuple[Any, Any]:
    """Smallest and largest number of `width` bits."""
    if kind.signed:
        return -(1 << (width - 1)), (1 << (width - 1)) - 1
    return 0 * width, (1 << width) - 1


def changed(xp: Any, word: Any, op: Any, value: Any, width: Any, kind: TensorType) -> Any:
    """The words after the fault; `op`, `value`, `width` one for each word.

    A bipolar word is one bit, 1 for +1: bit operations act on it, PUT takes the number.
    """
    if kind.bipolar:
        bit = (word + 1) >> 1
        put = (value + 1) >> 1
        return 2 * (_bits(xp, bit, op, value, bit, put) & 1) - 1
    low, high = limits(kind, width)
    total = xp.minimum(xp.maximum(word + value, low), high)
    return wrap(_bits(xp, word, op, value, total, value), width, kind.signed)


def _bits(xp: Any, word: Any, op: Any, value: Any, total: Any, put: Any) -> Any:
    found = xp.where(op == int(Op.FLIP), word ^ value, put)
    found = xp.where(op == int(Op.CLEAR), word & ~value, found)
    found = xp.where(op == int(Op.SET), word | value, found)
    return xp.where(op == int(Op.ADD), total, found)
