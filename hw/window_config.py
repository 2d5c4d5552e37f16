"""The buffer that feeds a layer with windows of an image, in numbers. No Amaranth."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from ..quant.ir import IntArray

__all__ = ["Size", "Tap", "WindowConfig", "clog2"]

Size = tuple[int, int, int]
"""(height, width, channels) of an image."""

Tap = tuple[int, int, int]
"""(kernel row, kernel column, channel word) of an element group inside a window."""


def clog2(n: int) -> int:
    """Bits that count n states, at least one."""
    return max(1, (n - 1).bit_length())


@dataclass(frozen=True)
class WindowConfig:
    """A circular buffer of words that a layer reads window by window.

    Parameters: image `height` x `width` x `channels`; `kernel`, `stride`, `dilation` as (rows,
    columns), `padding` (top, left, bottom, right) filled with `pad_value`; `word` channels a word
    of `lane_bits` (+ `code_bits`, in the padding `pad_code`) each; `taps[step][port]`, what each
    read port fetches at each step; `passes`, the channel word that each pass over the window starts
    from; `depth` words of memory, a power of two; `counted`, the layer asks how many elements of a
    window are no padding. `used`, where ports keep parts of the words: the elements of a word that
    each one keeps.
    `hold`: cycles for which the words of a window are kept after its last step, for `hw.retry`.
    `column_counts`, where a window covers several pixels' own windows (`hw.pixels`) and is
    `counted`: the kernel columns inside, for each column of windows and each of its pixels.
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
    pad_code: int = 0
    counted: bool = False
    used: tuple[tuple[int, ...], ...] = ()
    column_counts: tuple[tuple[int, ...], ...] = ()
    hold: int = 0

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

    @functools.cached_property
    def kept(self) -> tuple[tuple[int, ...], ...]:
        """The elements of a word that each port keeps."""
        return self.used or (tuple(range(self.word)),) * self.ports

    @functools.cached_property
    def elements(self) -> int:
        """Elements that a step fetches."""
        return sum(len(kept) for kept in self.kept)

    def _inside(self, axis: int, size: int) -> tuple[int, ...]:
        starts = np.arange(self.out_size[axis]) * self.stride[axis] - self.padding[axis]
        at = starts[:, None] + np.arange(self.kernel[axis]) * self.dilation[axis]
        return tuple(((at >= 0) & (at < size)).sum(axis=1).tolist())

    @property
    def columns_inside(self) -> tuple[int, ...]:
        """Kernel columns inside the image for each column of windows."""
        return self._inside(1, self.width)

    @functools.cached_property
    def inside(self) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
        """Kernel rows inside the image for each row of windows; columns for each column and pixel.

        A window that covers several pixels' own windows has a number for each of them.
        """
        columns = self.column_counts or tuple((n,) for n in self.columns_inside)
        return self._inside(0, self.height), columns

    @property
    def place_counts(self) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
        """The different numbers of rows inside, and of columns: classes of window positions."""
        rows, columns = self.inside
        return tuple(sorted(set(rows))), tuple(sorted(set(columns)))

    @property
    def place_bits(self) -> tuple[int, int]:
        """Bits that tell the classes of rows and of columns; 0 where nobody asks or all are one."""
        rows, columns = ((len(n) - 1).bit_length() * self.counted for n in self.place_counts)
        return rows, columns

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

    @property
    def end_in_reach(self) -> bool:
        """Whether positions tell how far the frame's end is from anywhere in the frame."""
        return self.frame_words <= 1 << (self.index_bits - 1)

    @property
    def tail_row(self) -> int:
        """First row of windows of which one reaches beyond the frame's last word."""
        beyond = (self.window_starts + self.span > self.frame_words).reshape(self.out_size)
        rows = np.flatnonzero(beyond.any(axis=1))
        return int(rows.min(initial=self.out_size[0]))

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
