"""Widths of Amaranth expressions, without Amaranth: pairs (bits, signed) and their operators."""

from __future__ import annotations

from ...quant.ir import IntArray

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
    """Shape of a << amount as Amaranth infers it: room for the largest amount of that width."""
    return a[0] + (1 << const(amount)[0]) - 1, a[1]


def tree_sums(terms: int, bits: int, most: int, arity: int) -> list[int]:
    """Widths of the registers of an adder tree over `terms` signed values of `bits` bits.

    >>> tree_sums(5, 17, 40, 4)
    [20, 17, 21]
    """
    widths, found = [bits] * terms, []
    while len(widths) > 1:
        sums = []
        for i in range(0, len(widths), arity):
            group = widths[i : i + arity]
            total = group[0]
            for other in group[1:]:
                total = max(total, other) + 1
            sums.append(min(most, total))
        found += sums
        widths = sums
    return found


def constant(values: IntArray) -> bool:
    """Whether a vector holds one value only."""
    return bool((values == values[0]).all())
