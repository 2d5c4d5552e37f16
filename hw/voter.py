"""Majority voter (triple modular redundancy)."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Voter"]


class Voter(wiring.Component):
    """y = (a & b) | (b & c) | (a & c), bit by bit; combinational.

    The module keeps its hierarchy through synthesis, so that the redundancy check can trace its
    three inputs to three registers.

    Parameters: `width` in bits. Members: `a`, `b`, `c`, the replicas' values; `y`, the majority.
    Raises ValueError for a width below 1.
    """

    def __init__(self, width: int) -> None:
        if width < 1:
            raise ValueError(f"width must be >= 1, not {width}")
        super().__init__({"a": In(width), "b": In(width), "c": In(width), "y": Out(width)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.y.eq((self.a & self.b) | (self.b & self.c) | (self.a & self.c))
        return m
