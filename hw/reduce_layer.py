"""Pools and arg-max and their folding -> the configurations of their circuits. No Amaranth."""

from __future__ import annotations

from dataclasses import replace

from ..quant import ranges
from ..quant.ir import ArgMax, AvgPool, GlobalAvgPool, MaxPool, Requantize, TensorType
from .average import by_count
from .config import clog2
from .fold import Fold, divides
from .pixels import check_pixels, strip
from .reduce_config import ArgMaxConfig, PoolConfig
from .window_config import Size, Tap, WindowConfig

__all__ = ["argmax_layer", "pool_layer"]


def pool_layer(
    node: MaxPool | AvgPool | GlobalAvgPool,
    size: Size,
    out_shape: tuple[int, ...],
    kind: TensorType,
    out: TensorType,
    found: ranges.Range,
    fold: Fold,
) -> PoolConfig:
    """The configuration of a pool that reads images of `size` and elements of `kind`.

    Raises InputError naming the layer and the folding's number.
    """
    height, width, channels = size
    divides(node.name, "pe", fold.pe, channels, "channels")
    kernel, stride, padding = (height, width), (1, 1), (0, 0, 0, 0)
    if not isinstance(node, GlobalAvgPool):
        kernel, stride, padding = node.kernel, node.stride, node.padding
    divides(node.name, "simd", fold.simd, kernel[0] * kernel[1], "elements of a window")
    average: Requantize | None = None if isinstance(node, MaxPool) else node.requantize
    window = WindowConfig(
        height, width, channels, kernel, stride, padding, (1, 1),
        word=fold.pe, lane_bits=kind.bits, taps=_taps(kernel, fold.simd),
        passes=tuple(range(channels // fold.pe)),
        depth=1, pad_value=kind.zero_point if average else kind.lo * (not kind.bipolar),
        counted=isinstance(node, AvgPool) and not node.count_include_pad,
    )  # fmt: skip
    if isinstance(node, AvgPool) and window.counted:
        average = by_count(node, window)
    lanes, pixels = range(fold.pe), 1
    picks = tuple(tuple(port * fold.pe + lane for port in range(fold.simd)) for lane in lanes)
    if fold.pixels != 1:
        in_turn = kernel == (height, width) and not any(padding)
        whole = {"pe": channels, "simd": 1 if in_turn else kernel[0] * kernel[1]}
        check_pixels(node, size, (*window.out_size, channels), fold, whole)
        pixels = 1 if in_turn else fold.pixels
        broad = _pixels_in_turn if in_turn else _pixels_side_by_side
        window, picks = broad(window, fold.pixels)
    return PoolConfig(
        name=node.name,
        op=type(node).__name__,
        window=window,
        out_shape=out_shape,
        out_lanes=len(picks),
        out_bits=out.bits,
        out_signed=out.signed,
        act_signed=kind.signed,
        act_bipolar=kind.bipolar,
        requantize=average,
        acc_bits=found.raw_bits,
        zero_point=kind.zero_point,
        picks=picks,
        pixels=pixels,
    )


def _taps(kernel: tuple[int, int], simd: int) -> tuple[tuple[Tap, ...], ...]:
    """The elements of a window in order, `simd` a step."""
    every = [(kh, kw, 0) for kh in range(kernel[0]) for kw in range(kernel[1])]
    return tuple(tuple(every[i : i + simd]) for i in range(0, len(every), simd))


def _pixels_side_by_side(
    bare: WindowConfig, pixels: int
) -> tuple[WindowConfig, tuple[tuple[int, ...], ...]]:
    """Several output pixels a cycle, each with all its channels and its whole window."""
    found = strip(bare, pixels)
    picks = (pick[:, lane].tolist() for pick in found.picks for lane in range(bare.channels))
    return found.window, tuple(map(tuple, picks))


def _pixels_in_turn(
    bare: WindowConfig, pixels: int
) -> tuple[WindowConfig, tuple[tuple[int, ...], ...]]:
    """A window that is the whole image: several of its pixels a cycle, in the stream's order."""
    words, channels = bare.height * bare.width // pixels, bare.channels
    window = replace(
        bare, height=1, width=words, channels=pixels * channels, kernel=(1, words),
        word=pixels * channels, taps=_taps((1, words), 1), counted=False,
    )  # fmt: skip
    lanes = range(channels)
    return window, tuple(tuple(range(lane, pixels * channels, channels)) for lane in lanes)


def argmax_layer(node: ArgMax, elements: int, kind: TensorType, out: TensorType) -> ArgMaxConfig:
    taps = tuple(((0, 0, i),) for i in range(elements))
    window = WindowConfig(
        1, 1, elements, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1),
        word=1, lane_bits=kind.bits, taps=taps, passes=(0,), depth=1,
    )  # fmt: skip
    return ArgMaxConfig(
        name=node.name,
        op="ArgMax",
        window=window,
        out_shape=(1,),
        out_lanes=1,
        out_bits=max(out.bits, clog2(elements)),
        out_signed=False,
        in_bits=kind.bits,
        in_signed=kind.signed and not kind.bipolar,
        elements=elements,
    )
