"""Words and what a fault does to them: two's complement of a given width, in NumPy or torch.

`xp` is the module `numpy` or `torch`; arrays are int64 and stay on their device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..ir import IntArray, TensorType
from .records import Op

__all__ = ["changed", "changed_in_order", "exact_matmul", "limits", "wrap"]


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


def changed_in_order(
    xp: Any,
    array: Callable[[Any], Any],
    flat: Any,
    columns: tuple[IntArray, IntArray, IntArray, IntArray, IntArray],
    kind: TensorType,
) -> None:
    """Change words of `flat` [rows, words], some of them more than once, in the order of the list.

    `columns` on the host: row, word, op, value, width of each change.
    """
    at, index, op, value, width = columns
    key = at * flat.shape[1] + index
    order = np.argsort(key, kind="stable")
    fresh = np.concatenate(([True], np.diff(key[order]) != 0))[: len(key)]
    turn = np.empty(len(key), np.int64)
    turn[order] = np.arange(len(key)) - np.flatnonzero(fresh)[np.cumsum(fresh) - 1]
    for number in range(int(turn.max(initial=-1)) + 1):
        rows = turn == number
        place = array(at[rows]), array(index[rows])
        how = array(op[rows]), array(value[rows]), array(width[rows])
        flat[place] = changed(xp, flat[place], *how, kind)


def exact_matmul(xp: Any, a: Any, b: Any) -> Any:
    """[n, i, k] times the transpose of [n, j, k], exact below 2^53."""
    if xp is np:
        return (a.astype(np.float64) @ b.transpose(0, 2, 1).astype(np.float64)).astype(np.int64)
    return (a.double() @ b.transpose(1, 2).double()).to(xp.int64)
