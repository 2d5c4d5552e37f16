"""Several adjacent output pixels a cycle, in numbers. No Amaranth.

A frame [H, W, C] and the frame [H, W / Q, Q C] are the same stream. `pixels` windows of stride s
side by side are one window over words of Q = pixels * s input pixels, which moves by one word; the
lanes of each pixel take their own part of what it holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, gcd

import numpy as np

from ..quant.errors import InputError
from ..quant.ir import ArgMax, AvgPool, Conv2d, Dense, IntArray, MaxPool, Node, Pad
from .fold import Fold
from .window_config import Size, WindowConfig

__all__ = ["Strip", "check_pixels", "side_by_side", "strip"]


@dataclass(frozen=True)
class Strip:
    """One window that covers the windows of adjacent pixels.

    `picks[pixel]` are the window's elements that belong to a pixel's own window, [kernel position,
    channel].
    """

    window: WindowConfig
    picks: tuple[IntArray, ...]


def _in_row(width: int, out_width: int, stride: int) -> list[int]:
    """Output pixels that a layer can compute side by side: whole words fill a row of the input."""
    possible = (n for n in range(2, out_width + 1) if out_width % n == 0 == width % (n * stride))
    return [1, *possible]


def side_by_side(node: Node, size: Size, out: Size) -> list[int]:
    """How many pixels a layer can take side by side; `size` and `out` are its input and output.

    Output pixels of a row; pixels of the frame where a layer reduces the whole image or only passes
    pixels in their order.
    """
    match node:
        case Conv2d():
            return _in_row(size[1], out[1], node.stride[1])
        case MaxPool() | AvgPool() if node.kernel != size[:2] or any(node.padding):
            return _in_row(size[1], out[1], node.stride[1])
        case Pad():
            return _divisors(gcd(size[1], out[1]))
        case Dense() | ArgMax():
            return [1]
    return _divisors(size[0] * size[1])


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def check_pixels(node: Node, size: Size, out: Size, fold: Fold, whole: Mapping[str, int]) -> None:
    """InputError, naming the layer, unless it can take `fold.pixels` side by side.

    `whole` are the other numbers of the folding that take a whole pixel in a cycle.
    """
    counts = side_by_side(node, size, out)
    if fold.pixels not in counts:
        raise InputError(
            f"layer {node.name}: pixels = {fold.pixels} do not fill the words of its input and "
            f"output; choose one of {counts}"
        )
    if fold.pixels > 1 and any(getattr(fold, name) != value for name, value in whole.items()):
        needed = " and ".join(f"{name} = {value}" for name, value in whole.items())
        raise InputError(
            f"layer {node.name}: pixels = {fold.pixels} needs whole pixels in every cycle; "
            f"set {needed}"
        )


def strip(bare: WindowConfig, pixels: int) -> Strip:
    """`pixels` windows of `bare`, the window of one pixel, side by side.

    Only the geometry, the bits, the pad value and `counted` of `bare` matter.
    """
    height, width, channels = bare.height, bare.width, bare.channels
    (kh, kw), (sh, sw), (dh, dw) = bare.kernel, bare.stride, bare.dilation
    top, left, bottom, _ = bare.padding
    columns = bare.out_size[1]
    each = pixels * sw  # input pixels of a word
    before = ceil(left / each)
    # Column of each kernel element of each pixel, from the first word of the first window on.
    at = np.arange(pixels)[:, None] * sw + np.arange(kw) * dw + before * each - left
    words, places = np.divmod(at, each)
    kept = {word: sorted(set(places[words == word].tolist())) for word in np.unique(words).tolist()}
    taps, used = [], []
    index = np.zeros((kh, pixels, kw, channels), dtype=np.int64)
    count = 0
    for row in range(kh):
        for word, inner in kept.items():
            taps.append((row, word, 0))
            used.append(tuple(p * channels + c for p in inner for c in range(channels)))
            for number, place in enumerate(inner):
                here = (words == word) & (places == place)
                index[row][here] = count + number * channels + np.arange(channels)
            count += len(inner) * channels
    reach = int(words.max()) + 1
    after = columns // pixels - 1 + reach - width // each - before
    window = WindowConfig(
        height, width // each, each * channels, (kh, reach), (sh, 1), (top, before, bottom, after),
        (dh, 1), word=each * channels, lane_bits=bare.lane_bits, taps=(tuple(taps),), passes=(0,),
        depth=1, pad_value=bare.pad_value, counted=bare.counted, used=tuple(used),
        column_counts=tuple(
            bare.columns_inside[i * pixels : (i + 1) * pixels] for i in range(columns // pixels)
        ) if bare.counted else (),
    )  # fmt: skip
    picks = index.transpose(1, 0, 2, 3).reshape(pixels, kh * kw, channels)
    return Strip(window, tuple(picks))
