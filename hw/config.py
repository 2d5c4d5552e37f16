"""What a layer's circuit looks like, in numbers: the records that components and estimator share.

Nothing here needs Amaranth. A `WindowConfig` describes the buffer that feeds a layer, a
`LayerConfig` the whole layer; latencies and depths are properties, so that a component, the timing
recurrence (`hw.timing`) and the cost model read one and the same formula.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from math import ceil

import numpy as np

from ..quant.ir import IntArray, Requantize

__all__ = [
    "MODULI",
    "ArgMaxConfig",
    "LayerConfig",
    "LinearConfig",
    "PoolConfig",
    "WindowConfig",
    "clog2",
    "multiplies_by_one",
    "requantize_cycles",
    "tree_levels",
]

Tap = tuple[int, int, int]
"""(kernel row, kernel column, channel word) of an element group inside a window."""

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


def clog2(n: int) -> int:
    """Bits that count n states, at least one."""
    return max(1, (n - 1).bit_length())


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


def requantize_cycles(kind: Requantize | None) -> int:
    """Cycles of a requantiser: multiply (when m is not 1), add and shift, clamp."""
    if kind is None:
        return 0
    return 2 if multiplies_by_one(kind) else 3


@dataclass(frozen=True)
class WindowConfig:
    """A circular buffer of words that a layer reads window by window.

    Parameters: image `height` x `width` x `channels`; `kernel`, `stride`, `dilation` as (rows,
    columns), `padding` (top, left, bottom, right) filled with `pad_value`; `word` channels a word
    of `lane_bits` (+ `code_bits`) each; `taps[step][port]`, what each read port fetches at each
    step; `passes`, the channel word that each pass over the window starts from; `depth` words of
    memory, a power of two.
    """

    height: int
    width: int
    channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]
    word: int
    lane_bits: int
    taps: tuple[tuple[Tap, ...], ...]
    passes: tuple[int, ...]
    depth: int
    pad_value: int = 0
    code_bits: int = 0

    @functools.cached_property
    def words_per_pixel(self) -> int:
        """Words that hold the channels of one pixel."""
        return self.channels // self.word

    @functools.cached_property
    def frame_words(self) -> int:
        """Words of one image."""
        return self.height * self.width * self.words_per_pixel

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns that a window spans."""
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        return (kh - 1) * dh + 1, (kw - 1) * dw + 1

    @functools.cached_property
    def out_size(self) -> tuple[int, int]:
        """Windows down and across."""
        top, left, bottom, right = self.padding
        eh, ew = self.extent
        return (
            (self.height + top + bottom - eh) // self.stride[0] + 1,
            (self.width + left + right - ew) // self.stride[1] + 1,
        )

    @functools.cached_property
    def windows(self) -> int:
        """Windows of one image."""
        return self.out_size[0] * self.out_size[1]

    @property
    def steps(self) -> int:
        """Read cycles of one pass over a window."""
        return len(self.taps)

    @property
    def ports(self) -> int:
        """Words read at once; each port owns a copy of the buffer."""
        return len(self.taps[0])

    @property
    def padded(self) -> bool:
        """Whether any window reaches over the image's border."""
        return any(self.padding)

    @property
    def span(self) -> int:
        """Words from a window's first to its last, counted along the stream."""
        eh, ew = self.extent
        return ((eh - 1) * self.width + ew) * self.words_per_pixel

    @property
    def lead(self) -> int:
        """Words by which the first window starts before the image (its padding)."""
        return (self.padding[0] * self.width + self.padding[1]) * self.words_per_pixel

    @property
    def least_depth(self) -> int:
        """Words, a power of two, that hold a window and one more row of outputs."""
        row = self.stride[0] * self.width * self.words_per_pixel
        return 1 << clog2(self.span + row)

    @property
    def index_bits(self) -> int:
        """Bits of the stream positions; distances stay below half of their range."""
        reach = self.depth + self.frame_words % self.depth + self.lead + self.stride[0] * self.span
        return clog2(self.depth + reach) + 2

    def offset(self, tap: Tap) -> int:
        """Words from a window's first word to `tap`."""
        kh, kw, block = tap
        pixel = kh * self.dilation[0] * self.width + kw * self.dilation[1]
        return pixel * self.words_per_pixel + block

    @functools.cached_property
    def window_starts(self) -> IntArray:
        """Stream position of each window's first word, shape (windows,); negative in padding."""
        rows, columns = self.out_size
        oy, ox = np.divmod(np.arange(rows * columns), columns)
        y, x = oy * self.stride[0] - self.padding[0], ox * self.stride[1] - self.padding[1]
        starts: IntArray = (y * self.width + x) * self.words_per_pixel
        return starts

    @functools.cached_property
    def window_needs(self) -> IntArray:
        """Words of the image that must have arrived before each window, shape (windows,)."""
        return np.minimum(self.window_starts + self.span, self.frame_words)


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerConfig:
    """What every layer has: a window buffer in front, groups of results, a FIFO behind.

    A *group* is the result of one pass over one window: `beats` beats of `out_lanes` elements of
    `out_bits` bits. `checked`: control registers carry parity, an upset flags what leaves.
    Configurations compare by identity: they hold arrays.
    """

    name: str
    op: str
    window: WindowConfig
    out_shape: tuple[int, ...]
    out_lanes: int
    out_bits: int
    out_signed: bool
    beats: int = 1
    checked: bool = False

    @property
    def groups_per_frame(self) -> int:
        """Passes over all windows of one image."""
        return self.window.windows * len(self.window.passes)

    @property
    def cycles_per_frame(self) -> int:
        """Initiation interval of this layer alone: input words, read steps or output beats."""
        return max(
            self.window.frame_words,
            self.groups_per_frame * self.window.steps,
            self.groups_per_frame * self.beats,
            CLAIM_CYCLES,
        )

    @property
    def pipeline_cycles(self) -> int:
        """Cycles from a group's last read step to its first beat at the output, exclusive."""
        raise AssertionError("defined by each layer kind")

    @property
    def commit_cycles(self) -> int:
        """Cycles that a group's beats wait in the FIFO for a check."""
        return 0

    @property
    def fifo_groups(self) -> int:
        """Groups in flight that keep the layer busy while its successor is ready."""
        flight = self.pipeline_cycles + self.commit_cycles + self.beats + self.window.steps
        return ceil(flight / self.window.steps)

    @property
    def fifo_beats(self) -> int:
        """Depth of the output FIFO, a power of two."""
        return 1 << clog2(self.fifo_groups * self.beats)


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearConfig(LayerConfig):
    """Convolution or dense layer on `pe` lanes with `simd` multipliers each.

    `weight` has shape (passes, pe, steps, simd), `bias` (passes, pe) with the zero point folded
    in, `acc_bits` holds every partial sum. `replicated` lists the lanes in triple modular
    redundancy, `modulus` is the checksum's or None.
    """

    pe: int
    simd: int
    act_signed: bool
    weight: IntArray
    weight_bits: int
    bias: IntArray
    acc_bits: int
    multiplier: str = "dsp"
    requantize: Requantize | None = None
    replicated: tuple[int, ...] = ()
    modulus: int | None = None
    macs: int = 0

    @property
    def act_bits(self) -> int:
        """Bits of an input element."""
        return self.window.lane_bits

    @property
    def product_bits(self) -> int:
        """Bits of a signed product."""
        return self.act_bits + self.weight_bits + (0 if self.act_signed else 1)

    @property
    def constant_weights(self) -> bool:
        """Whether each multiplier sees one weight only (fully unrolled): no ROM, no register."""
        return bool(self.weight.shape[0] * self.weight.shape[2] == 1)

    @property
    def block_weights(self) -> bool:
        """Whether a lane's weights are in block RAM, which is slow to read: it gets two ranks."""
        words = self.weight.shape[0] * self.weight.shape[2]
        return bool(words * self.simd * self.weight_bits > BLOCK_BITS)

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
class PoolConfig(LayerConfig):
    """Maximum or average over a window, `out_lanes` channels at a time."""

    act_signed: bool
    requantize: Requantize | None = None
    acc_bits: int = 0
    zero_point: int = 0

    @property
    def average(self) -> bool:
        """Whether the window is averaged instead of maximised."""
        return self.requantize is not None

    @property
    def requantize_cycles(self) -> int:
        """Cycles of the requantiser behind an average."""
        return requantize_cycles(self.requantize)

    @property
    def pipeline_cycles(self) -> int:
        """Address, read, compare or add, requantise, FIFO write."""
        return 3 + self.requantize_cycles + 1


@dataclass(frozen=True, kw_only=True, eq=False)
class ArgMaxConfig(LayerConfig):
    """Index of the largest of a frame's elements, one element a step."""

    in_bits: int
    in_signed: bool
    elements: int

    @property
    def pipeline_cycles(self) -> int:
        """Address, read, compare, FIFO write."""
        return 4
