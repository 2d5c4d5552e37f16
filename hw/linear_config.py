"""A convolution or dense layer in numbers. No Amaranth."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from math import ceil

import numpy as np

from ..quant.ir import IntArray, Requantize, Thresholds
from .checksum_config import FilterCheck, InputCheck
from .config import (
    BLOCK_BITS,
    CHECK_CYCLES,
    Turn,
    WindowedConfig,
    clog2,
    requantize_cycles,
    tree_levels,
)
from .pairs import lane_pairs

__all__ = ["LinearConfig", "repeated_passes"]


def repeated_passes(passes: int, repeated: tuple[int, ...]) -> tuple[int, ...]:
    """0 .. `passes` - 1 in order, those of `repeated` three times each."""
    return tuple(p for p in range(passes) for _ in range(3 if p in repeated else 1))


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearConfig(WindowedConfig):
    """Convolution or dense layer on `pe` lanes with `simd` multipliers each.

    `weight` has shape (passes, pe, steps, simd), `bias` (passes, pe) with the zero point folded
    in, `acc_bits` holds every partial sum. `group_lanes` neighbouring lanes read the same
    elements: all `pe`, or those of one group where several groups of a grouped convolution, or
    `pixels` output pixels, are computed side by side; `picks` are these elements, for each such
    group of lanes. `replicated` lists the lanes in triple modular redundancy, with `voters` each.
    `repeated` lists the passes that are computed three times, the results of the lanes `voted` are
    then voted. `modulus` is the checksum's, "exact", or None, `form` its form, "filter" or "input";
    a group that fails it is computed again at most `retry` times. `weight_code` is the code of each
    lane's weight words, "none", "parity" or "secded".
    """

    pe: int
    simd: int
    act_signed: bool
    act_bipolar: bool = False
    weight: IntArray
    weight_bits: int
    bias: IntArray
    acc_bits: int
    group_lanes: int
    picks: tuple[tuple[int, ...], ...]
    pixels: int = 1
    multiplier: str = "dsp"
    weights: str = "auto"
    requantize: Requantize | Thresholds | None = None
    replicated: tuple[int, ...] = ()
    voters: int = 1
    repeated: tuple[int, ...] = ()
    voted: tuple[int, ...] = ()
    modulus: int | str | None = None
    form: str = "filter"
    weight_code: str = "none"
    retry: int = 0
    macs: int = 0

    @property
    def act_bits(self) -> int:
        """Bits of an input element."""
        return self.window.lane_bits

    @property
    def elements(self) -> int:
        """Elements that a step fetches: `simd` for each group that is computed side by side.

        The windows of adjacent pixels overlap, and have theirs in common.
        """
        return self.window.elements

    def lane_elements(self, lane: int) -> list[int]:
        """Which of a step's elements each multiplier of a lane takes."""
        return list(self.picks[lane // self.group_lanes])

    @functools.cached_property
    def checksum_rows(self) -> IntArray:
        """Sum of the lanes' weights of each element of each step, (passes * steps, elements)."""
        passes, pe, steps, _ = self.weight.shape
        rows = np.zeros((passes, steps, self.elements), dtype=np.int64)
        for lane in range(pe):
            rows[:, :, self.lane_elements(lane)] += self.weight[:, lane]
        return rows.reshape(passes * steps, self.elements)

    @property
    def turns(self) -> tuple[int, ...]:
        """A pass that is repeated takes three turns."""
        thrice = (Turn.FIRST, Turn.SECOND, Turn.VOTED)
        passes = range(self.weight.shape[0])
        return tuple(t for p in passes for t in (thrice if p in self.repeated else (Turn.PLAIN,)))

    @property
    def turn_passes(self) -> tuple[int, ...]:
        """The pass, a row of `weight`, of each turn."""
        return repeated_passes(self.weight.shape[0], self.repeated)

    @property
    def weight_bipolar(self) -> bool:
        """Whether weights are -1 and +1, stored as one bit."""
        return self.weight_bits == 1

    @functools.cached_property
    def weight_codes(self) -> IntArray:
        """Weights as the memories hold them: bipolar ones as 0 and 1."""
        return (self.weight + 1) // 2 if self.weight_bipolar else self.weight

    @property
    def multiplies(self) -> bool:
        """Whether products need a multiplier: a bipolar operand only chooses a sign."""
        return not (self.act_bipolar or self.weight_bipolar)

    @functools.cached_property
    def filter_check(self) -> FilterCheck:
        """The checksum lane of the filter form."""
        return FilterCheck(self)

    @functools.cached_property
    def input_check(self) -> InputCheck:
        """The checksum of the input form."""
        return InputCheck(self)

    @property
    def by_frame(self) -> bool:
        """Whether the checksum knows only at a frame's end."""
        return self.modulus is not None and self.form == "input"

    @property
    def product_bits(self) -> int:
        """Bits of a product register: signed, or one bit where both operands are bipolar."""
        if self.act_bipolar and self.weight_bipolar:
            return 1
        extra = self.multiplies and not self.act_signed
        return self.act_bits + self.weight_bits + extra

    @property
    def term_bits(self) -> int:
        """Bits of a signed product as the adder tree takes it."""
        return max(2, self.product_bits)

    @functools.cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Lanes that share multipliers; constants are multiplied one by one."""
        if self.multiplier != "dsp2" or not self.multiplies or self.constant_weights:
            return ()
        return lane_pairs(self.pe, self.group_lanes, self.replicated)

    @property
    def constant_weights(self) -> bool:
        """Whether each multiplier sees one weight only (fully unrolled): no ROM, no register."""
        return bool(self.weight.shape[0] * self.weight.shape[2] == 1)

    def lane_code(self, lane: int) -> str:
        """The code of a lane's weight words; constants need none, and replicas are outvoted."""
        return "none" if self.constant_weights or lane in self.replicated else self.weight_code

    @property
    def spoils(self) -> bool:
        """Whether a check may find an element or a weight wrong."""
        coded = any(self.lane_code(lane) != "none" for lane in range(self.pe))
        return coded or (self.coded and not self.direct)

    @property
    def drain_post(self) -> str:
        """What protects the drain register: a checksum sees an upset of it anyway."""
        return "none" if self.compared and self.modulus else self.post

    @property
    def block_weights(self) -> bool:
        """Whether a lane's weights are in block RAM, which is slow to read: it gets two ranks."""
        words = self.weight.shape[0] * self.weight.shape[2]
        if self.weights != "auto":
            return self.weights == "block" and words > 1
        return bool(words * self.simd * self.weight_bits > BLOCK_BITS)

    def channels(self, lane: int) -> list[int]:
        """The channel of each table index of the requantiser at output lane `lane`."""
        neurons = self.weight.shape[0] * self.pe // self.pixels
        return [
            (group * self.pe + beat * self.out_lanes + lane) % neurons
            for group in self.turn_passes
            for beat in range(self.beats)
        ]

    @property
    def lane_cycles(self) -> int:
        """Cycles from a read step's issue to its sum in the accumulator.

        Address, read, product, one for each rank of the adder tree, accumulate.
        """
        return 4 + tree_levels(self.simd)

    @property
    def requantize_cycles(self) -> int:
        """Cycles of the requantisers behind the lanes."""
        return requantize_cycles(self.requantize)

    @property
    def drain_cycles(self) -> int:
        """One, where the lanes' results wait in a drain register to leave one beat at a time."""
        return 1 if self.beats > 1 else 0

    @property
    def pipeline_cycles(self) -> int:
        """Lane, drain register, requantiser, FIFO write."""
        return self.lane_cycles + self.drain_cycles + self.requantize_cycles + 1

    @property
    def verdict_cycles(self) -> int:
        """Cycles from a beat's FIFO write to its verdict: what requantising does not hide."""
        return max(0, CHECK_CYCLES - self.requantize_cycles) if self.modulus else 0

    @property
    def commit_cycles(self) -> int:
        """A checksummed group waits for its last beat and for its verdict.

        Of the input form a frame's last group only.
        """
        if self.by_frame:
            return self.input_check.late(max(1, self.input_check.parallel))
        return 0 if self.modulus is None else self.beats - 1 + self.verdict_cycles

    @property
    def retries_flags(self) -> bool:
        """Whether groups are computed again that a check of a code or of a register flagged."""
        return self.retry > 0 and (self.spoils or self.compared)

    @property
    def verdict_delay(self) -> int:
        """Cycles from the issue of a group's last step to its verdict."""
        return self.pipeline_cycles - 1 + self.commit_cycles

    @property
    def retry_cycles(self) -> int:
        """Cycles by which a group is late that is computed again as often as it may.

        Each time the pipeline runs empty, and the group takes its steps and its way through it.
        """
        turns = 3 if self.repeated else 1
        return self.retry * (2 * self.verdict_delay + turns * self.steps)

    @property
    def log_groups(self) -> int:
        """Entries, a power of two, for groups without verdict (`hw.retry`), one of them empty.

        Those complete in F + 1 cycles, F the verdict's delay; a pass that is computed three times
        waits for its last turn.
        """
        waiting = ceil((self.verdict_delay + 1) / self.steps) + 2 * bool(self.repeated)
        return 1 << clog2(waiting + 1)
