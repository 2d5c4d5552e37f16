"""Layers that reduce a window without weights, in numbers: pools and arg-max. No Amaranth."""

from __future__ import annotations

from dataclasses import dataclass

from ..quant.ir import Requantize
from .average import table_entries
from .config import WindowedConfig, requantize_cycles, tree_levels

__all__ = ["REDUCE_CYCLES", "ArgMaxConfig", "PoolConfig"]


REDUCE_CYCLES = 3
"""Cycles from a step's issue to its element in the result: address, read, combine."""


class ReduceConfig(WindowedConfig):
    """What pools and arg-max have in common."""

    @property
    def spoils(self) -> bool:
        """Whether a check may find an element, or a register that combines them, wrong."""
        return self.coded or self.compared

    @property
    def requantize_cycles(self) -> int:
        """Cycles of a requantiser behind."""
        return 0

    @property
    def reduce_cycles(self) -> int:
        """Cycles from a step's issue to its elements in the result."""
        return REDUCE_CYCLES


@dataclass(frozen=True, kw_only=True, eq=False)
class PoolConfig(ReduceConfig):
    """Maximum or average over a window, `out_lanes` results at a time.

    `picks` are the elements of a step that each lane combines; the lanes of `pixels` adjacent
    output pixels lie one pixel after the other.
    """

    act_signed: bool
    act_bipolar: bool = False
    requantize: Requantize | None = None
    acc_bits: int = 0
    zero_point: int = 0
    picks: tuple[tuple[int, ...], ...]
    pixels: int = 1

    @property
    def average(self) -> bool:
        """Whether the window is averaged instead of maximised."""
        return self.requantize is not None

    @property
    def simd(self) -> int:
        """Elements of a window that a lane combines in a step."""
        return len(self.picks[0])

    def channels(self, lane: int) -> list[int]:
        """The table entry of each table index of the requantiser at output lane `lane`."""
        lanes = self.out_lanes // self.pixels
        return table_entries(self.window, lanes, lane % lanes, lane // lanes)

    @property
    def requantize_cycles(self) -> int:
        """Cycles of the requantiser behind an average."""
        return requantize_cycles(self.requantize)

    @property
    def reduce_cycles(self) -> int:
        """Cycles from a step's issue to its elements in the result."""
        return REDUCE_CYCLES + tree_levels(self.simd)

    @property
    def pipeline_cycles(self) -> int:
        """Address, read, compare or add, requantise, FIFO write."""
        return self.reduce_cycles + self.requantize_cycles + 1


@dataclass(frozen=True, kw_only=True, eq=False)
class ArgMaxConfig(ReduceConfig):
    """Index of the largest of a frame's elements, one element a step."""

    in_bits: int
    in_signed: bool
    elements: int

    @property
    def pipeline_cycles(self) -> int:
        """Address, read, compare, FIFO write."""
        return 4
