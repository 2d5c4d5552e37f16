"""What a layer's circuit looks like, in numbers: the records that components and estimator share.

Nothing here needs Amaranth. A `LayerConfig` describes a whole layer, its `WindowConfig`
(`hw.window_config`) the buffer that feeds it; latencies and depths are properties, so that a
component, the timing recurrence (`hw.timing`) and the cost model read one and the same formula.
"""

from __future__ import annotations

import enum
import functools
from dataclasses import dataclass
from math import ceil

from ..quant.ir import Requantize, Thresholds
from .code_words import code_bits
from .window_config import Tap, WindowConfig, clog2

__all__ = [
    "INPUT",
    "MODULI",
    "LayerConfig",
    "Tap",
    "Turn",
    "WindowConfig",
    "WindowedConfig",
    "clog2",
    "inlet",
    "inlet_control",
    "multiplies_by_one",
    "requantize_cycles",
    "stream_codes",
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
    `beats` beats of `out_lanes` elements of `out_bits` bits. `control` says what protects the
    control registers: "none", "parity" (an upset flags what leaves) or "tmr"; `post` the registers
    behind the accumulators: "none", "parity", "dup" or "tmr". `stream` is the code of the elements
    that leave, `in_codes` those of each operand's ("none" without a plan), one of
    `code_words.CODES`. Configurations compare by identity: they hold arrays.
    """

    name: str
    op: str
    sources: tuple[str, ...] = (INPUT,)
    out_shape: tuple[int, ...]
    out_lanes: int
    out_bits: int
    out_signed: bool
    beats: int = 1
    control: str = "none"
    post: str = "none"
    stream: str = "none"
    in_codes: tuple[str, ...] = ()

    @property
    def checked(self) -> bool:
        """Whether control registers carry parity."""
        return self.control == "parity"

    @property
    def guarded(self) -> bool:
        """Whether every control register is read: by its parity, or by its voter."""
        return self.control != "none"

    @property
    def out_code_bits(self) -> int:
        """Bits of the code of an element that leaves."""
        return code_bits(self.stream, self.out_bits)

    def in_code(self, port: int) -> str:
        """The code that an operand's elements bring."""
        return self.in_codes[port] if self.in_codes else "none"

    def in_code_bits(self, port: int) -> int:
        """Bits of the code of an operand's element."""
        return code_bits(self.in_code(port), self.element_bits[port])

    @property
    def coded(self) -> bool:
        """Whether any operand's elements bring a code."""
        return any(code != "none" for code in self.in_codes)

    @property
    def compared(self) -> bool:
        """Whether registers behind the accumulators are compared with what they took."""
        return self.post in ("parity", "dup")

    @property
    def spoils(self) -> bool:
        """Whether a check may find that a step reads something wrong."""
        return self.coded

    @property
    def alarmed(self) -> bool:
        """Whether anything raises an alarm: parity of control, marks in the FIFO."""
        return self.checked or self.stream != "none"

    @property
    def direct(self) -> bool:
        """Whether words go straight into the layer, without a buffer."""
        return False

    @property
    def in_lanes(self) -> tuple[int, ...]:
        """Elements of a word of each operand."""
        raise AssertionError("defined by each layer kind")

    @property
    def element_bits(self) -> tuple[int, ...]:
        """Bits of an element of each operand."""
        raise AssertionError("defined by each layer kind")

    @property
    def operand_bits(self) -> tuple[int, ...]:
        """Bits of an element of each operand, its check code included."""
        each = enumerate(self.element_bits)
        return tuple(bits + self.in_code_bits(port) for port, bits in each)

    @property
    def in_words(self) -> tuple[int, ...]:
        """Words of a frame of each operand."""
        raise AssertionError("defined by each layer kind")

    @property
    def groups_per_frame(self) -> int:
        """Groups of one frame."""
        raise AssertionError("defined by each layer kind")

    @property
    def leaving(self) -> tuple[bool, ...]:
        """Which of the groups leave, in turn; the others wait in the layer to be voted."""
        return (True,)

    @property
    def beats_per_frame(self) -> int:
        """Beats that leave for one frame."""
        return self.groups_per_frame * sum(self.leaving) // len(self.leaving) * self.beats

    @property
    def steps(self) -> int:
        """Cycles from a group's start to the start of the next."""
        raise AssertionError("defined by each layer kind")

    @property
    def cycles_per_frame(self) -> int:
        """Initiation interval of this layer alone: input words, read steps or output beats."""
        steps = self.groups_per_frame * self.steps
        return max(*self.in_words, steps, self.beats_per_frame, CLAIM_CYCLES)

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
    port = reader.sources.index(INPUT)
    return reader.in_lanes[port], reader.element_bits[port]


def stream_codes(layers: tuple[LayerConfig, ...]) -> dict[str, str]:
    """The code of each layer's stream, and of the input's: that which its first reader has."""
    first = next(layer for layer in layers if INPUT in layer.sources)
    return {INPUT: first.stream, **{layer.name: layer.stream for layer in layers}}


def inlet_control(layers: tuple[LayerConfig, ...]) -> str:
    """What protects the fork of the input: "tmr" where its first reader has it."""
    first = next(layer for layer in layers if INPUT in layer.sources)
    return "tmr" if first.control == "tmr" else "none"


class Turn(enum.IntEnum):
    """A pass that is computed once, or the first, second and last time of one computed thrice."""

    PLAIN = 0
    FIRST = 1
    SECOND = 2
    VOTED = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class WindowedConfig(LayerConfig):
    """A layer that reads its only operand window by window: a group is one pass over a window."""

    window: WindowConfig

    @property
    def in_lanes(self) -> tuple[int, ...]:
        """Elements of a buffered word."""
        return (self.window.word,)

    @property
    def element_bits(self) -> tuple[int, ...]:
        """Bits of a channel."""
        return (self.window.lane_bits,)

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

    @property
    def turns(self) -> tuple[int, ...]:
        """What becomes of the result of each pass over a window, one of `Turn`."""
        return (Turn.PLAIN,) * len(self.window.passes)

    @property
    def leaving(self) -> tuple[bool, ...]:
        """Passes whose result does not wait."""
        return tuple(turn in (Turn.PLAIN, Turn.VOTED) for turn in self.turns)
