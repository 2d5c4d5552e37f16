"""Widths of Amaranth expressions, without Amaranth: pairs (bits, signed) and their operators."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Shape", "add", "const", "multiply", "shift_left", "tree_sums", "vector"]

Shape = tuple[int, bool]
"""Bits of a value, and whether it is signed."""


def const(value: int) -> Shape:
    """Shape of an integer constant; 0 takes one bit.

    >>> const(5), const(0), const(-4)
    ((3, False), (1, False), (3, True))
    """
    if value < 0:
        return (~value).bit_length() + 1, True
    return max(1, value.bit_length()), False


def vector(low: int, high: int) -> Shape:
    """Shape of a table whose entries lie in low..high."""
    if low < 0:
        return max(high.bit_length(), (~low).bit_length()) + 1, True
    return high.bit_length(), False


def add(a: Shape, b: Shape) -> Shape:
    """Shape of a + b: one more bit than the wider operand, once both have a sign."""
    is_signed = a[1] or b[1]
    widths = (bits + (is_signed and not sign) for bits, sign in (a, b))
    return max(widths) + 1, is_signed


def multiply(a: Shape, b: Shape) -> Shape:
    """Shape of a * b."""
    return a[0] + b[0], a[1] or b[1]


def shift_left(a: Shape, amount: int) -> Shape:
    """Shape of a.shift_left(amount)."""
    return a[0] + amount, a[1]


def tree_sums(widths: Sequence[int], most: int, arity: int) -> list[int]:
    """Widths of the registers of an adder tree over signed values; width 0 is a constant 0.

    >>> tree_sums([17] * 5, 40, 4)
    [20, 17, 21]
    """
    terms, found = list(widths), []
    while len(terms) > 1:
        terms = [min(most, _sum(terms[i : i + arity])) for i in range(0, len(terms), arity)]
        found += terms
    return found


def _sum(widths: Sequence[int]) -> int:
    """Width of a sum from left to right: one bit more than the wider term each time."""
    total = 0
    for width in widths:
        total = max(total, width) + 1 if total and width else total + width
    return total
