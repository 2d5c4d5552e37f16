"""Layers that reduce a window without weights, in numbers: pools and arg-max. No Amaranth."""

from __future__ import annotations

from dataclasses import dataclass

from ..quant.ir import Requantize
from .average import table_entries
from .config import WindowedConfig, requantize_cycles

__all__ = ["ArgMaxConfig", "PoolConfig"]


@dataclass(frozen=True, kw_only=True, eq=False)
class PoolConfig(WindowedConfig):
    """Maximum or average over a window, `out_lanes` channels at a time."""

    act_signed: bool
    act_bipolar: bool = False
    requantize: Requantize | None = None
    acc_bits: int = 0
    zero_point: int = 0

    @property
    def average(self) -> bool:
        """Whether the window is averaged instead of maximised."""
        return self.requantize is not None

    def channels(self, lane: int) -> list[int]:
        """The table entry of each table index of the requantiser at output lane `lane`."""
        return table_entries(self.window, self.out_lanes, lane)

    @property
    def requantize_cycles(self) -> int:
        """Cycles of the requantiser behind an average."""
        return requantize_cycles(self.requantize)

    @property
    def pipeline_cycles(self) -> int:
        """Address, read, compare or add, requantise, FIFO write."""
        return 3 + self.requantize_cycles + 1


@dataclass(frozen=True, kw_only=True, eq=False)
class ArgMaxConfig(WindowedConfig):
    """Index of the largest of a frame's elements, one element a step."""

    in_bits: int
    in_signed: bool
    elements: int

    @property
    def pipeline_cycles(self) -> int:
        """Address, read, compare, FIFO write."""
        return 4
