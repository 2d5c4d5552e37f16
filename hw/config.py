"""What a layer's circuit looks like, in numbers: the records that components and estimator share.

Nothing here needs Amaranth. A `LayerConfig` describes a whole layer, its `WindowConfig`
(`hw.window_config`) the buffer that feeds it; latencies and depths are properties, so that a
component, the timing recurrence (`hw.timing`) and the cost model read one and the same formula.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from math import ceil

import numpy as np

from ..quant.ir import IntArray, Requantize, Thresholds
from .average import table_entries
from .pairs import lane_pairs
from .window_config import Tap, WindowConfig, clog2

__all__ = [
    "INPUT",
    "MODULI",
    "ArgMaxConfig",
    "LayerConfig",
    "LinearConfig",
    "PoolConfig",
    "Tap",
    "WindowConfig",
    "WindowedConfig",
    "clog2",
    "inlet",
    "multiplies_by_one",
    "requantize_cycles",
    "tree_levels",
]

INPUT = ""
"""In place of a layer's name among the sources: the graph's input."""

ADDS_PER_RANK = 4
"""Inputs that one rank of an adder tree sums before its register."""

BLOCK_BITS = 4096
"""Bits of a lane's weights from which they go to block RAM instead of look-up tables."""

CLAIM_CYCLES = 2
"""Cycles between the first words of two frames: the reader takes the one before."""

CHECK_CYCLES = 2
"""Cycles from a drained word to its verdict: residue, sum and compare."""

MODULI = (3, 7, 15, 255)
"""Odd moduli 2^r - 1 of a checksum: reduction is a sum of r-bit digits."""


def tree_levels(inputs: int) -> int:
    """Register ranks of an adder tree: `ADDS_PER_RANK` inputs each."""
    levels = 0
    while inputs > 1:
        inputs = ceil(inputs / ADDS_PER_RANK)
        levels += 1
    return levels


@functools.lru_cache(maxsize=1024)
def multiplies_by_one(kind: Requantize) -> bool:
    """Whether a requantiser needs no multiplier (scheme `pow2` with one shift)."""
    return bool((kind.multiplier == 1).all() and (kind.shift == kind.shift[0]).all())


def requantize_cycles(kind: Requantize | Thresholds | None) -> int:
    """Cycles of a requantiser: multiply (when m is not 1), add and shift, clamp.

    A threshold unit takes one for each bit of its result.
    """
    if kind is None:
        return 0
    if isinstance(kind, Thresholds):
        return kind.out.bits
    return 2 if multiplies_by_one(kind) else 3


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerConfig:
    """What every layer has: operands from `sources`, groups of results, a FIFO behind.

    `sources` are names of layers or `INPUT`. A *group* is what one start of the layer gives:
    `beats` beats of `out_lanes` elements of `out_bits` bits. `checked`: control registers carry
    parity, an upset flags what leaves. Configurations compare by identity: they hold arrays.
    """

    name: str
    op: str
    sources: tuple[str, ...] = (INPUT,)
    out_shape: tuple[int, ...]
    out_lanes: int
    out_bits: int
    out_signed: bool
    beats: int = 1
    checked: bool = False

    @property
    def direct(self) -> bool:
        """Whether words go straight into the layer, without a buffer."""
        return False

    @property
    def in_lanes(self) -> int:
        """Elements of a word of each operand."""
        raise AssertionError("defined by each layer kind")

    @property
    def operand_bits(self) -> tuple[int, ...]:
        """Bits of an element of each operand, its check code included."""
        raise AssertionError("defined by each layer kind")

    @property
    def in_words(self) -> tuple[int, ...]:
        """Words of a frame of each operand."""
        raise AssertionError("defined by each layer kind")

    @property
    def groups_per_frame(self) -> int:
        """Groups of one frame."""
        raise AssertionError("defined by each layer kind")

    @property
    def steps(self) -> int:
        """Cycles from a group's start to the start of the next."""
        raise AssertionError("defined by each layer kind")

    @property
    def cycles_per_frame(self) -> int:
        """Initiation interval of this layer alone: input words, read steps or output beats."""
        groups = self.groups_per_frame
        return max(*self.in_words, groups * self.steps, groups * self.beats, CLAIM_CYCLES)

    @property
    def pipeline_cycles(self) -> int:
        """Cycles from a group's last step to its first beat at the output, exclusive."""
        raise AssertionError("defined by each layer kind")

    @property
    def out_bipolar(self) -> bool:
        """Whether elements are -1 and +1 in one bit."""
        return self.out_signed and self.out_bits == 1

    @property
    def commit_cycles(self) -> int:
        """Cycles that a group's beats wait in the FIFO for a check."""
        return 0

    @property
    def fifo_groups(self) -> int:
        """Groups in flight that keep the layer busy while its successor is ready."""
        flight = self.pipeline_cycles + self.commit_cycles + self.beats + self.steps
        return ceil(flight / self.steps)

    @property
    def fifo_beats(self) -> int:
        """Depth of the output FIFO, a power of two."""
        return 1 << clog2(self.fifo_groups * self.beats)


def inlet(layers: tuple[LayerConfig, ...]) -> tuple[int, int]:
    """Lanes of the input's beats, and bits of a lane: what its first reader takes."""
    reader = next(layer for layer in layers if INPUT in layer.sources)
    return reader.in_lanes, reader.operand_bits[reader.sources.index(INPUT)]


@dataclass(frozen=True, kw_only=True, eq=False)
class WindowedConfig(LayerConfig):
    """A layer that reads its only operand window by window: a group is one pass over a window."""

    window: WindowConfig

    @property
    def in_lanes(self) -> int:
        """Channels of a buffered word."""
        return self.window.word

    @property
    def operand_bits(self) -> tuple[int, ...]:
        """Bits of a channel and of its code."""
        return (self.window.lane_bits + self.window.code_bits,)

    @property
    def in_words(self) -> tuple[int, ...]:
        """Words of an image."""
        return (self.window.frame_words,)

    @property
    def steps(self) -> int:
        """Read cycles of a pass."""
        return self.window.steps

    @property
    def groups_per_frame(self) -> int:
        """Passes over all windows of one image."""
        return self.window.windows * len(self.window.passes)


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearConfig(WindowedConfig):
    """Convolution or dense layer on `pe` lanes with `simd` multipliers each.

    `weight` has shape (passes, pe, steps, simd), `bias` (passes, pe) with the zero point folded
    in, `acc_bits` holds every partial sum. `group_lanes` neighbouring lanes read the same
    elements: all `pe`, or those of one group where several groups of a grouped convolution are
    computed side by side. `replicated` lists the lanes in triple modular redundancy, `modulus` is
    the checksum's or None.
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
    multiplier: str = "dsp"
    weights: str = "auto"
    requantize: Requantize | Thresholds | None = None
    replicated: tuple[int, ...] = ()
    modulus: int | None = None
    macs: int = 0

    @property
    def act_bits(self) -> int:
        """Bits of an input element."""
        return self.window.lane_bits

    @property
    def elements(self) -> int:
        """Elements that a step fetches: `simd` for each group that is computed side by side."""
        return self.simd * self.pe // self.group_lanes

    def lane_elements(self, lane: int) -> list[int]:
        """Which of a step's elements each multiplier of a lane takes."""
        groups = self.pe // self.group_lanes
        width = self.window.word // groups
        offset = lane // self.group_lanes * width
        return [
            port * self.window.word + offset + channel
            for port in range(self.simd // width)
            for channel in range(width)
        ]

    @functools.cached_property
    def checksum_rows(self) -> IntArray:
        """Sum of the lanes' weights of each element of each step, (passes * steps, elements)."""
        passes, pe, steps, _ = self.weight.shape
        rows = np.zeros((passes, steps, self.elements), dtype=np.int64)
        for lane in range(pe):
            rows[:, :, self.lane_elements(lane)] += self.weight[:, lane]
        return rows.reshape(passes * steps, self.elements)

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

    @property
    def checksum_adds(self) -> int:
        """Inputs of a sum in the checksum lane, which has the lanes' ranks for all elements."""
        ranks, adds = tree_levels(self.simd), ADDS_PER_RANK
        while ranks and adds**ranks < self.elements:
            adds += 1
        return adds

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

    @property
    def block_weights(self) -> bool:
        """Whether a lane's weights are in block RAM, which is slow to read: it gets two ranks."""
        words = self.weight.shape[0] * self.weight.shape[2]
        if self.weights != "auto":
            return self.weights == "block" and words > 1
        return bool(words * self.simd * self.weight_bits > BLOCK_BITS)

    def channels(self, lane: int) -> list[int]:
        """The channel of each table index of the requantiser at output lane `lane`."""
        groups, beats = range(self.weight.shape[0]), range(self.beats)
        return [g * self.pe + b * self.out_lanes + lane for g in groups for b in beats]

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
        """A checksummed group waits for its last beat and for its verdict."""
        return 0 if self.modulus is None else self.beats - 1 + self.verdict_cycles


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
