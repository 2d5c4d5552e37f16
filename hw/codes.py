"""Check codes of a word as logic (`hw.code_words`): encode, compare, correct."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal, Value

from .code_words import code_bits, data_positions, mark_code

__all__ = ["check", "check_marks", "check_word", "encode", "encode_word", "protect_marks"]


def encode(m: Module, kind: str, value: Value) -> Value:
    """The code of the bits of `value`."""
    value = value.as_unsigned()
    width = len(value)
    bits = code_bits(kind, width)
    if kind == "none":
        return Const(0, 0)
    if kind != "secded":
        return _modulo_three(m, value) if bits == 2 else ~value.xor()
    places = data_positions(width)
    checks = [
        ~Cat(*(value[i] for i, place in enumerate(places) if place >> k & 1)).xor()
        for k in range(bits - 1)
    ]
    code = Signal(bits, name="secded_code")
    m.d.comb += [
        code[:-1].eq(Cat(*checks)),
        code[-1].eq(Cat(value, code[:-1]).xor()),
    ]
    return code


def check(m: Module, kind: str, value: Value, code: Value) -> tuple[Value, Value]:
    """The word, corrected where its code corrects, and whether it is (still) wrong."""
    if kind == "none":
        return value, Const(0, 1)
    if kind != "secded":
        return value, encode(m, kind, value) != code
    raw = value.as_unsigned()
    again = encode(m, kind, raw)
    syndrome, odd = Signal(len(code) - 1, name="syndrome"), Signal(name="odd_flips")
    m.d.comb += [
        syndrome.eq(again[:-1] ^ code[:-1]),
        odd.eq(Cat(raw, code).xor()),
    ]
    places = data_positions(len(raw))
    flips = Cat(*(odd & (syndrome == place) for place in places))
    # An odd number of flips leads to a place of the code, or there were three.
    known = [syndrome == place for place in places]
    known += [syndrome == 0, *(syndrome == 1 << k for k in range(len(syndrome)))]
    wrong = (~odd & syndrome.any()) | (odd & ~Cat(*known).any())
    # A signal, so that all who read it, replicas among them, read one and not a copy each.
    right = Signal(len(raw), name="corrected")
    m.d.comb += right.eq(raw ^ flips)
    return (right.as_signed() if value.shape().signed else right), wrong


def encode_word(m: Module, kind: str, word: Value, bits: int) -> Value:
    """The codes of a word's elements of `bits` bits, element 0 lowest."""
    return Cat(*(encode(m, kind, word[i : i + bits]) for i in range(0, len(word), bits)))


def check_word(m: Module, kind: str, word: Value, code: Value, bits: int) -> tuple[Value, Value]:
    """The elements of a word, corrected, and whether any of them is wrong."""
    if kind == "none":
        return word, Const(0, 1)
    size = code_bits(kind, bits)
    found = [
        check(m, kind, word[i * bits : (i + 1) * bits], code[i * size : (i + 1) * size])
        for i in range(len(word) // bits)
    ]
    return Cat(*(value for value, _ in found)), Cat(*(wrong for _, wrong in found)).any()


MARKS = 3
"""Marks at the top of a stored beat: first, last, err."""


def protect_marks(m: Module, kind: str, word: Value, marks: int = MARKS) -> Value:
    """A word for a memory: with the code of its upper bits above it."""
    return word if kind == "none" else Cat(word, encode(m, mark_code(kind), word[-marks:]))


def check_marks(
    m: Module, kind: str, stored: Value, width: int, marks: int = MARKS
) -> tuple[Value, Value]:
    """The word of `width` bits, its marks corrected, and whether they are wrong."""
    if kind == "none":
        return stored, Const(0, 1)
    right, wrong = check(m, mark_code(kind), stored[width - marks : width], stored[width:])
    return Cat(stored[: width - marks], right), wrong


def _modulo_three(m: Module, value: Value) -> Value:
    """`value` modulo 3: digits of two bits are added, two at a time."""
    digits: list[Value] = [value[i : i + 2] for i in range(0, len(value), 2)]
    if len(digits) == 1:
        return _reduced(digits[0], Const(0, 2))
    while len(digits) > 1:
        sums: list[Value] = []
        for i in range(0, len(digits) - 1, 2):
            digit = Signal(2, name="residue_digit")
            m.d.comb += digit.eq(_reduced(digits[i], digits[i + 1]))
            sums.append(digit)
        digits = sums + digits[len(digits) & ~1 :]
    return digits[0]


def _reduced(a: Value, b: Value) -> Value:
    """(a + b) modulo 3 of two digits 0..3: each bit is a function of four bits, a look-up table."""
    a, b = (Cat(d, Const(0, 2 - len(d))) if len(d) < 2 else d for d in (a, b))
    both = Cat(a, b)
    terms: list[list[Value]] = [[], []]
    for case in range(16):
        found = ((case & 3) + (case >> 2)) % 3
        if found:
            terms[found - 1].append(both == case)
    return Cat(*(Cat(*each).any() for each in terms))
