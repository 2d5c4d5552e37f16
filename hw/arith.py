"""Arithmetic building blocks: constant tables, adder trees, multipliers out of adders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value, signed

from .config import ADDS_PER_RANK
from .site import Site

__all__ = [
    "adder_tree",
    "bipolar",
    "lut_multiply",
    "max_tree",
    "registers_of",
    "repeated",
    "rom",
    "table",
]

Keep = Callable[[int, Any, str, Value], Signal]


def bipolar(bit: Value) -> Value:
    """The signed value of a bipolar bit: 1 is +1, 0 is -1."""
    return Cat(Const(1, 1), ~bit).as_signed()


def rom(m: Module, values: list[int], index: Any, shape: Any, name: str) -> Signal:
    """A combinational table: `name` = values[index]; past its end it holds the last value."""
    out = Signal(shape, name=name)
    if len(set(values)) == 1:
        m.d.comb += out.eq(values[0])
        return out
    with m.Switch(index):
        for i, value in enumerate(values[:-1]):
            with m.Case(i):
                m.d.comb += out.eq(value)
        with m.Default():
            m.d.comb += out.eq(values[-1])
    return out


def table(rows: list[list[int]], bits: int) -> list[int]:
    """Pack rows of (signed or unsigned) elements into words, element 0 lowest."""
    mask = (1 << bits) - 1
    return [sum((value & mask) << (i * bits) for i, value in enumerate(row)) for row in rows]


def registers_of(m: Module, site: Site, role: str) -> Keep:
    """Plain registers for a tree: the rank, shape and name of each, and the value that it takes."""

    def keep(rank: int, shape: Any, name: str, value: Value) -> Signal:
        register = site.register(shape, name, role)
        m.d.sync += register.eq(value)
        return register

    return keep


def adder_tree(keep: Keep, terms: list[Value], name: str, shape: Any) -> Value:
    """Sum of `terms` with a register behind every `ADDS_PER_RANK` inputs.

    Takes `config.tree_levels(len(terms))` cycles; every partial sum fits `shape`. `keep` makes the
    registers, as `registers_of`.
    """
    rank = 0
    while len(terms) > 1:
        sums: list[Value] = []
        for i in range(0, len(terms), ADDS_PER_RANK):
            part = sum(terms[i + 1 : i + ADDS_PER_RANK], terms[i])
            width = min(Shape.cast(shape).width, Value.cast(part).shape().width)
            kind = signed(width) if Shape.cast(shape).signed else width
            sums.append(keep(rank, kind, f"{name}_{rank}_{i // ADDS_PER_RANK}", part))
        terms, rank = sums, rank + 1
    return terms[0]


def max_tree(keep: Keep, terms: list[Value], name: str) -> Value:
    """The largest of `terms` of one shape, with a register behind every `ADDS_PER_RANK` of them."""
    rank = 0
    while len(terms) > 1:
        found: list[Value] = []
        for i in range(0, len(terms), ADDS_PER_RANK):
            largest = terms[i]
            for term in terms[i + 1 : i + ADDS_PER_RANK]:
                largest = Mux(term > largest, term, largest)
            found.append(keep(rank, terms[i].shape(), f"{name}_{rank}_{i}", largest))
        terms, rank = found, rank + 1
    return terms[0]


def repeated(value: int, bits: int, count: int) -> int:
    """`count` times `value` of `bits` bits, side by side."""
    return sum(value << (i * bits) for i in range(count))


def lut_multiply(a: Value, b: Value) -> Value:
    """a * b as a sum of shifted rows, for targets or layers that spare the DSP blocks.

    `b` is signed; its top bit weighs -2^(n-1). Exact: the result has len(a) + len(b) bits or more.
    Source: schoolbook two's complement multiplication.
    """
    a, n = Value.cast(a), len(b)
    rows: list[Value] = [Mux(b[i], a.shift_left(i), 0) for i in range(n - 1)]
    total: Value = sum(rows, Const(0, 1))
    return total - Mux(b[n - 1], a.shift_left(n - 1), 0)
