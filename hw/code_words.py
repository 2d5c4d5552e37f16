"""Check codes of a word, in numbers: how long they are and what they say. No Amaranth.

"parity": one bit, odd: a word and its code never hold an even number of ones, and synthesis cannot
merge the parity of a single bit with the bit. "residue": the word modulo 3, in two bits; no 2^k is
0 modulo 3. A word of one bit takes parity instead, its residue is the bit itself. "secded": a
Hamming code and a parity bit over everything: one flipped bit is corrected, two are seen. Its check
bits are inverted for the reason that parity is odd; of a one-bit word two of them are equal.

Source: R. W. Hamming, "Error detecting and error correcting codes", Bell System Technical Journal
1950; residue codes as in Avizienis, "Arithmetic error codes", IEEE Trans. Computers 1971.
"""

from __future__ import annotations

from functools import lru_cache

__all__ = ["CODES", "code_bits", "data_positions", "encode_int", "mark_code"]

CODES = ("none", "parity", "residue", "secded")
"""Kinds of codes."""


@lru_cache(maxsize=256)
def data_positions(width: int) -> tuple[int, ...]:
    """Places of a word's bits in its Hamming code: numbers from 1 that are no powers of two.

    >>> data_positions(4)
    (3, 5, 6, 7)
    """
    found: list[int] = []
    place = 2
    while len(found) < width:
        place += 1
        if place & (place - 1):
            found.append(place)
    return tuple(found)


def code_bits(kind: str, width: int) -> int:
    """Bits of the code of a word of `width` bits, 0 for "none".

    >>> [code_bits(kind, 8) for kind in CODES]
    [0, 1, 2, 5]

    Raises ValueError for a kind that is not in `CODES`.
    """
    if kind not in CODES:
        raise ValueError(f"unknown code {kind!r}")
    if kind == "none":
        return 0
    if kind == "secded":
        return data_positions(width)[-1].bit_length() + 1
    return 2 if kind == "residue" and width > 1 else 1


def mark_code(kind: str) -> str:
    """The code of a stored beat's marks, where its elements have `kind`.

    A lost mark loses a frame, and what follows is in the wrong place: marks are corrected.

    >>> mark_code("none"), mark_code("parity")
    ('none', 'secded')
    """
    return "none" if kind == "none" else "secded"


def encode_int(kind: str, value: int, width: int) -> int:
    """The code of `value`, taken modulo 2^width (two's complement).

    >>> encode_int("parity", 7, 4), encode_int("residue", -1, 4), encode_int("secded", 0, 4)
    (0, 0, 15)
    """
    value &= (1 << width) - 1
    bits = code_bits(kind, width)
    if kind == "none":
        return 0
    if kind != "secded":
        return value % 3 if bits == 2 else 1 - value.bit_count() % 2
    syndrome = 0
    for i, place in enumerate(data_positions(width)):
        syndrome ^= place if value >> i & 1 else 0
    check = syndrome ^ ((1 << (bits - 1)) - 1)
    return check | (value.bit_count() + check.bit_count()) % 2 << (bits - 1)
