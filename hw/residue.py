"""Sums and products modulo M = 2^r - 1, or exact, out of LUTs.

Modulo 3 a digit is two bits and every step a table of four inputs, which costs two LUTs and no
carry; other moduli add digits and let carries come around.
Source: residue arithmetic with end-around carry is folklore.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed

from .arith import lut_multiply

__all__ = ["product", "residue", "summed"]

Term = tuple[Value, bool]
"""A value, and whether it is signed."""


def residue(m: Module, values: list[Term], modulus: int, name: str) -> Signal:
    """The sum of `values`, pairs (value, is signed), modulo 2^r - 1, in 0..modulus - 1."""
    return _modulo_three(m, values, name) if modulus == 3 else _carried(m, values, modulus, name)


def summed(m: Module, values: list[Term], modulus: int | None, bits: int, name: str) -> Value:
    """The sum of `values`: its residue, or without a modulus its lowest `bits` bits.

    A single value stays as it is, however short.
    """
    if modulus is not None:
        return residue(m, values, modulus, name)
    if len(values) == 1:
        return values[0][0][:bits]
    total: Value = Const(0, 1)
    for value, is_signed in values:
        total = total + (value.as_signed() if is_signed else value.as_unsigned())
    out = Signal(signed(bits), name=name)
    m.d.comb += out.eq(total)
    return out


def product(m: Module, a: Value, b: Value, modulus: int, name: str) -> Value:
    """a * b modulo 2^r - 1 of two numbers below the modulus."""
    if modulus == 3:
        return Cat((a[0] & b[0]) | (a[1] & b[1]), (a[0] & b[1]) | (a[1] & b[0]))
    full = Signal(2 * modulus.bit_length(), name=f"{name}_full")
    m.d.comb += full.eq(lut_multiply(a, Cat(b, 0).as_signed()))
    return residue(m, [(full, False)], modulus, name)


def _modulo_three(m: Module, values: list[Term], name: str) -> Signal:
    """A tree of tables that add two digits of 0..3 and give one of 0..2."""
    digits: list[Value] = []
    for value, is_signed in values:
        n = len(value)
        found: list[Value] = [value[i : i + 2] for i in range(0, n, 2)]
        if is_signed:  # the top bit weighs -2^(n - 1): 1 above an even place's bit, else 2
            top = found.pop()
            found.append(Cat(top[0] ^ top[1], top[0] & top[1]) if n % 2 == 0 else Cat(0, top))
        digits += found
    result = Signal(2, name=name)
    if len(digits) < 2:
        digits += [Const(0, 2)] * (2 - len(digits))
    rank = 0
    while len(digits) > 1:
        sums: list[Value] = []
        for i in range(0, len(digits) - 1, 2):
            last = len(digits) == 2
            part = result if last else Signal(2, name=f"{name}_{rank}_{i // 2}")
            m.d.comb += part.eq(_digit_sum(digits[i], digits[i + 1]))
            sums.append(part)
        digits, rank = sums + digits[2 * len(sums) :], rank + 1
    return result


def _digit_sum(a: Value, b: Value) -> Value:
    """a + b modulo 3, of digits in which 3 stands for 0."""
    one_a, two_a = a[0] & ~_bit(a), _bit(a) & ~a[0]
    one_b, two_b = b[0] & ~_bit(b), _bit(b) & ~b[0]
    zero_a, zero_b = ~(one_a | two_a), ~(one_b | two_b)
    return Cat(
        (one_a & zero_b) | (zero_a & one_b) | (two_a & two_b),
        (two_a & zero_b) | (zero_a & two_b) | (one_a & one_b),
    )


def _bit(digit: Value) -> Value:
    """The upper bit of a digit that may have one bit only."""
    return digit[1] if len(digit) > 1 else Const(0, 1)


def _carried(m: Module, values: list[Term], modulus: int, name: str) -> Signal:
    """Digits of r bits are added and carries come around until one subtraction is enough.

    A sign bit weighs -2^n, a constant modulo M.
    """
    r = modulus.bit_length()
    terms: list[tuple[Value, int]] = []
    for value, is_signed in values:
        n = len(value) - is_signed
        for i in range(0, n, r):
            digit = value[i : min(i + r, n)]
            terms.append((digit, (1 << len(digit)) - 1))
        if is_signed:
            weight = -(1 << n) % modulus
            terms.append((Mux(value[n], weight, 0), weight))
    rank = 0
    while True:
        total: Value = Const(0, 1)
        for term, _ in terms:
            total = total + term
        bound = sum(most for _, most in terms)
        out = Signal(max(1, bound.bit_length()), name=f"{name}_{rank}")
        m.d.comb += out.eq(total)
        if bound < 2 * modulus:
            break
        terms = []
        for i in range(0, len(out), r):
            digit = out[i : i + r]
            terms.append((digit, min((1 << len(digit)) - 1, bound >> i)))
        rank += 1
    result = Signal(r, name=name)
    m.d.comb += result.eq(Mux(out >= modulus, out - modulus, out))
    return result
